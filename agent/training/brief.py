"""Drafts a source's brief from its cases with the language model; a person may edit it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from langchain_core.messages import HumanMessage, SystemMessage

from agent.core.prompts import render
from llm.base import ChatBackend
from retrieval.casebook import Casebook, StoredCase
from retrieval.encoding.representation import Representation

_CASES, _CASE_CHARS = 6, 160
_MAX_TOKENS, _MAX_CHARS = 140, 900
_MIN_SENTENCES, _MAX_SENTENCES = 2, 4
# this many consecutive words of a shown case are a quotation
_QUOTED_WORDS = 5
_WORD = re.compile(r"\w+")
_LIST_ITEM = re.compile(r"(?:^|[:;.])\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)
# words by which a brief describes the records of a label
_DESCRIBES = {
    "normal": re.compile(r"\b(?:normal|routine|regular|typical|usual|expected|legitimate)", re.IGNORECASE),
    "anomalous": re.compile(
        r"\b(?:anomal|abnormal|unusual|unexpected|error|fail|fault|suspicious|attack|problem|spam|fraud|malicious)",
        re.IGNORECASE,
    ),
}


class Draft(NamedTuple):
    """A draft, and why it is rejected (None if it is accepted)."""

    text: str
    problem: str | None


def draft_brief(model: ChatBackend, casebook: Casebook, name: str) -> Draft:
    """Draft two to four sentences about a source, from up to six different cases of each label.

    A draft that fails `problem_of` is asked for once more.

    Parameters
    ----------
    model : ChatBackend
    casebook : Casebook
    name : str
        The source.

    Raises
    ------
    ModelFailure, EngineBusy
        The model was not available.
    """
    row = casebook.source(name)
    representation = (row.representation if row else None) or Representation()
    templates = [case for case, _ in casebook.by_template(name).values()]
    shown = {label: _spread(templates, label, representation) for label in _DESCRIBES}
    prompt = render("brief_cases", source=name, **shown)
    text, problem = "", None
    for retry in (False, True):
        request = f"{prompt}\n\n{render('brief_retry', problem=problem)}" if retry else prompt
        answer = "".join(model.stream([SystemMessage(render("brief_system")), HumanMessage(request)], _MAX_TOKENS))
        sentences = re.findall(r"[^.!?]+[.!?]+(?=\s|$)", answer.strip())
        text = " ".join("".join(sentences[:_MAX_SENTENCES]).split())[:_MAX_CHARS]
        problem = "is a list" if _LIST_ITEM.search(answer) else problem_of(text, shown)
        if problem is None:
            break
    return Draft(text, problem)


def problem_of(text: str, shown: Mapping[str, Sequence[str]]) -> str | None:
    """Why ``text`` is not a brief; None if it is one.

    Parameters
    ----------
    text : str
    shown : Mapping[str, Sequence[str]]
        The cases that the model was shown, by label.
    """
    sentences = len(re.findall(r"[^.!?]+[.!?]+(?=\s|$)", text))
    if not _MIN_SENTENCES <= sentences <= _MAX_SENTENCES:
        counted = f"{sentences} complete sentence{'s' * (sentences != 1)}"
        return f"has {counted} instead of {_MIN_SENTENCES} to {_MAX_SENTENCES}"
    phrases = _phrases(text)
    if any(phrases & _phrases(case) for cases in shown.values() for case in cases):
        return "quotes a record"
    for label, pattern in _DESCRIBES.items():
        if shown.get(label) and not pattern.search(text):
            return f"does not describe the {label} records"
    return None


def _phrases(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return {tuple(words[i : i + _QUOTED_WORDS]) for i in range(len(words) - _QUOTED_WORDS + 1)}


def _spread(cases: Sequence[StoredCase], label: str, representation: Representation) -> list[str]:
    """Masked texts of up to six cases of a label, evenly spread over its templates."""
    of_label = [case for case in cases if case.label == label]
    step = max(1, len(of_label) // _CASES)
    return [representation.masked(case)[:_CASE_CHARS] for case in of_label[::step][:_CASES]]
