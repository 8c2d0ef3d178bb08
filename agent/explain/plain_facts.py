"""The facts of a verdict for people: in plain words and in their language.

Facts are kept in English, with their numbers, as the explanation of a verdict has them. Each has one of the forms
below; one that has none of them, such as an installed detector's, stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from agent.core.locale import Translate, translator
from agent.core.records import Verdict

# weight of evidence (in log-odds) below which it is weak, above which it is strong
_WEAK, _STRONG = 0.7, 2.0
_NUMBER = r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_DECIDED = re.compile(
    rf"(?P<how>decided by|weighing most:) (?P<detector>.+) "
    rf"\(weighed (?P<weight>{_NUMBER}), in all {_NUMBER}(?:, threshold {_NUMBER})?\)"
)
_LEANS = re.compile(rf"the language model leans \w+ \(log-odds (?P<weight>{_NUMBER})(?:, compared with .+)?\)")
_CHANGE = re.compile(r"(?P<name>\S.*?) were (?P<new>\S+|“.*?”) \(it is (?P<old>.*?)\)(?P<more>$| and )")
_SESSION = re.compile(r"(?P<has>no|\d+ of) (?P<event>“.*?”) \(that has (?P<other>none|\d+)\)")
# first those that others are a part of
_FORMS = (
    "the record contains a prompt injection, which was kept from the models: {texts}",
    "by its clause “{text}”, which no normal case has",
    "no case has “{number}” after “{place}”",
    "no case has “{number}” at the beginning",
    "the cases like it contradict each other",
    "no case is like it, so that it is not called normal",
    "it would be normal, but {problems}",
    "it would be anomalous, but {problems}",
    "from {low} to {high} either label would be wrong too often",
    "the language model was not tried when this source was learned: not used",
    "the casebook holds exactly this record: {anomalous} labelled anomalous, {normal} labelled normal",
    "the casebook holds this template: {anomalous} labelled anomalous, {normal} labelled normal",
    "the casebook holds no anomalous case",
    "the casebook holds no normal case",
    "nearest anomalous case: {case} (similarity {similarity}) “{text}”",
    "nearest normal case: {case} (similarity {similarity}) “{text}”",
    "it is farther from every case than {share} % of the cases are from each other",
    "unlike the nearest normal case it says {added} and lacks {lacking}",
    "unlike the nearest normal case it says {added}",
    "unlike the nearest normal case it lacks {lacking}",
    "{name} is {value}, above all normal cases ({low} to {high})",
    "{name} is {value}, below all normal cases ({low} to {high})",
    "{name} is “{value}”, which no normal case has",
    "after {before} came {event}, which never follows it in normal cases",
    "after {before} came {event}, which normal cases seldom have there",
)


def plain_facts(verdict: Verdict, translate: Translate | None = None) -> Iterator[str]:
    """The facts of a verdict, each on one line.

    Parameters
    ----------
    verdict : Verdict
    translate : callable, optional
        Translates the fixed sentences; English by default.
    """
    facts = verdict.facts or ((verdict.explanation.partition(": ")[2],) if verdict.explanation else ())
    for fact in facts:
        yield plain(" ".join(fact.split()), translate)


def plain(fact: str, translate: Translate | None = None) -> str:
    """A fact in plain words, in English by default."""
    _ = translate or translator("en")
    if found := _DECIDED.fullmatch(fact):
        form = _("decided by {detector}: {strength} evidence for {label}")
        if found["how"] != "decided by":
            form = _("what weighs most is {detector}: {strength} evidence for {label}")
        return form.format(detector=_(found["detector"]), **_evidence(float(found["weight"]), _))
    if found := _LEANS.fullmatch(fact):
        form = _("the language model: {strength} evidence for {label}")
        return form.format(**_evidence(float(found["weight"]), _))
    if fact.startswith(begin := "would be normal if "):
        return _("would be normal if {change}").format(change=changes_in_words(fact.removeprefix(begin), _))
    if fact.startswith(begin := "unlike the nearest normal session it has "):
        differences = _SESSION.sub(lambda match: _difference(match, _), fact.removeprefix(begin))
        return _("unlike the nearest normal session it has {differences}").format(differences=differences)
    for form, pattern in _patterns():
        if found := pattern.fullmatch(fact):
            return _(form).format(**found.groupdict())
    return _(fact)


def changes_in_words(changes: str, _: Translate) -> str:
    """The changes of fields that would make a record normal, such as ``retries were 3 (it is 57)``."""
    form, link = _("{name} were {new} (it is {old})"), _(" and ")

    def change_in_words(match: re.Match[str]) -> str:
        change = form.format(name=match["name"], new=match["new"], old=match["old"])
        return change + (link if match["more"] else "")

    return _CHANGE.sub(change_in_words, changes)


def _evidence(weight: float, _: Translate) -> dict[str, str]:
    size = abs(weight)
    strength = "weak" if size < _WEAK else "clear" if size < _STRONG else "strong"
    return {"strength": _(strength), "label": _("anomalous" if weight > 0 else "normal")}


def _difference(match: re.Match[str], _: Translate) -> str:
    counts = {"event": match["event"], "other": _("none") if match["other"] == "none" else match["other"]}
    if match["has"] == "no":
        return _("no {event} (that has {other})").format(**counts)
    return _("{count} of {event} (that has {other})").format(count=match["has"].split()[0], **counts)


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """Each form, and what it matches."""
    return [(form, re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(form)))) for form in _FORMS]
