"""Facts for people: plain words in three languages, for every form that a fact has."""

from __future__ import annotations

import re

import pytest

from agent.core.locale import translator
from agent.explain.plain_facts import _FORMS, changes_in_words, plain


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ("decided by its fields (weighed +5.0, in all +8.0)", "decided by its fields: strong evidence for anomalous"),
        (
            "decided by the precedents' labels (weighed -1.2, in all -0.2, threshold -0.4)",
            "decided by the precedents' labels: clear evidence for normal",
        ),
        (
            "weighing most: the usual leaning of this source (weighed +0.3, in all +0.1)",
            "what weighs most is the usual leaning of this source: weak evidence for anomalous",
        ),
        ("the language model leans normal (log-odds -2.4)", "the language model: strong evidence for normal"),
        ("a fact of an installed detector", "a fact of an installed detector"),
    ],
)
def test_weights_in_words(fact: str, words: str) -> None:
    assert plain(fact) == words


def test_every_form_is_translated() -> None:
    for form in _FORMS:
        # a text of the record may hold anything, such as the words of another form
        values = {
            name: f"{name}, which no normal case has" if name == "text" else "7"
            for name in re.findall(r"{(\w+)}", form)
        }
        fact = form.format(**values)
        for code, script in (("ko", "[가-힣]"), ("zh", "[\u4e00-\u9fff]")):
            translated = plain(fact, translator(code))
            assert re.search(script, translated), (code, fact)
            assert all(value in translated for value in values.values()), (code, fact)


def test_changes_are_translated_one_by_one() -> None:
    changes = "place were “home” (it is “abroad”) and retries were 3 (it is 57)"
    assert changes_in_words(changes, translator("ko")) == "place = “home” (지금 “abroad”), retries = 3 (지금 57)"
    assert changes_in_words(changes, translator("en")) == changes
    session = "unlike the nearest normal session it has 3 of “open” (that has 1), no “close” (that has 2)"
    assert plain(session) == session
    assert "“close” 없음 (그 세션에는 2)" in plain(session, translator("ko"))
