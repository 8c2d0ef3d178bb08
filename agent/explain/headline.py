"""A verdict in one or two short sentences: label, probability, the nearest case, and what is new in the record."""

from __future__ import annotations

import re

from agent.core.locale import Translate, translator
from agent.core.numerics import expit
from agent.core.records import Verdict
from agent.core.terminal import truncate
from agent.explain.diff import new_phrases
from agent.explain.plain_facts import changes_in_words
from retrieval.text.masking import mask

_CHARS, _UNLIKE, _AS_NEAR = 60, 0.5, 0.001
_CHANGE = re.compile(r"would be normal if (.+?)(?=; |\.$|$)")


def headline(verdict: Verdict, translate: Translate | None = None) -> str:
    """A verdict in short sentences.

    Such as ``Anomalous, 90 %. Most like c212 *Check free disk space* (anomalous). New here: *exceeds limit*.``

    Parameters
    ----------
    verdict : Verdict
    translate : callable, optional
        Translates the fixed sentences; English by default.
    """
    _ = translate or translator("en")
    return " ".join([label_in_words(verdict, _), *reasons_in_words(verdict, _)])


def reasons_in_words(verdict: Verdict, _: Translate) -> list[str]:
    """The sentences after the label: the nearest case, and what is new or decides."""
    parts = list[str]()
    if verdict.precedents:
        nearest = verdict.precedents[0].similarity
        # of cases that are as near, one that speaks for the verdict
        alike = [near for near in verdict.precedents if near.similarity >= nearest - _AS_NEAR]
        near = next((near for near in alike if near.label == verdict.leans), alike[0])
        form = _("Most like {case} *{text}* ({label}).")
        if near.similarity < _UNLIKE:
            form = _("Unlike every case; the nearest is {case} *{text}* ({label}).")
        parts.append(form.format(case=near.case_id, text=quoted(near.text), label=_(near.label)))
    if verdict.label != "normal":
        parts += _news(verdict, _)
    return parts


def percent(probability: float) -> str:
    """A probability in percent, never quite 0 or 100."""
    return "<1 %" if probability < 0.005 else ">99 %" if probability > 0.995 else f"{100 * probability:.0f} %"


def quoted(text: str, most: int = _CHARS) -> str:
    """A text on one line without marks of emphasis, at most ``most`` characters of it."""
    return truncate(text.replace("*", "·"), most)


def label_in_words(verdict: Verdict, _: Translate) -> str:
    """The label and how sure it is, such as ``Anomalous, 90 %``."""
    probability = verdict.probability
    if verdict.label == "unsure":
        return _("Unsure, {percent} anomalous.").format(percent=percent(probability))
    name = _("Anomalous") if verdict.label == "anomalous" else _("Normal")
    share = probability if verdict.label == "anomalous" else 1 - probability
    if share >= 0.5:
        return f"{name}, {percent(share)}."
    limit = percent(expit(verdict.threshold))
    form = _("{label}: {percent} anomalous is above this source's limit of {limit}.")
    if verdict.label == "normal":
        form = _("{label}: {percent} anomalous is below this source's limit of {limit}.")
    return form.format(label=name, percent=percent(probability), limit=limit)


def _news(verdict: Verdict, _: Translate) -> list[str]:
    """What decides, where it can be named: a change of fields that would make it normal, or words that are new."""
    if change := _CHANGE.search(verdict.explanation):
        return [_("Would be normal if {change}.").format(change=quoted(changes_in_words(change[1], _), 120))]
    if not verdict.precedents or verdict.record.fields:
        return []
    phrases = new_phrases(mask(verdict.record.text), [mask(near.text) for near in verdict.precedents])
    return [_("New here: *{words}*.").format(words=quoted(", ".join(phrases), 100))] if phrases else []
