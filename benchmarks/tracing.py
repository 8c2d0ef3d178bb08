"""Checks explanations: each clause is parsed and looked up in the record, the cases or the source's model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.runnables import Runnable

from agent.core.numerics import logit
from agent.core.records import Precedent, Record, Verdict
from agent.core.requests import JudgeRequest
from agent.data.readers.values import split_pairs
from agent.detectors.novelty import is_unfamiliar
from retrieval.casebook import SourceSnapshot, StoredCase
from retrieval.text.masking import mask

_QUOTED = re.compile(r"“([^“”]*)”")
_SIGNED = r"([+-]\d+\.\d)"
_THRESHOLD = rf"(?:, threshold {_SIGNED})?"
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_CASE = re.compile(r"\bc\d+\b", re.IGNORECASE)
_HEAD = re.compile(r"(\w+) \(probability of an anomaly (under 0\.01|over 0\.99|\d\.\d\d)\)")
_CHANGE = re.compile(r"(.+?) were (\S+) \(it is ([^\s,)]+)(, the first ones kept|, more at its end)?\)(?: and |$)")
_COUNTED = re.compile(r"(?:(\d+) of|no) (Q\d+) \(that has (\d+|none)\)(?:, |$)")
# largest share of normal cases at which a step counts as rare
_RARE = 0.02


@dataclass(frozen=True)
class Evidence:
    """What an explanation of one verdict may be based on."""

    verdict: Verdict
    row: SourceSnapshot
    cases: Sequence[StoredCase]
    chain: Runnable[Any, Verdict]

    @property
    def source_model(self) -> dict[str, Any]:
        assert self.row.source_model is not None
        return self.row.source_model

    def nearest(self, label: str) -> Precedent | None:
        return next((precedent for precedent in self.verdict.precedents if precedent.label == label), None)

    def value(self, name: str) -> float | str:
        """A field of the record, or how many events of a kind it has; '' for none."""
        record = self.verdict.record
        if record.events:
            kinds = Counter(mask(event) for event in record.events)
            totals = {"events": len(record.events), "kinds of event": len(kinds)}
            if name in totals or name.startswith("count of "):
                return float(totals.get(name, kinds[name.removeprefix("count of ")]))
        value = record.fields.get(name)
        return value if isinstance(value, str) else float(value) if value is not None else ""


def wrong_clauses(evidence: Evidence) -> Iterator[str]:
    """Every clause of the facts that is wrong, or that no pattern here matches."""
    quotations: list[str] = []

    def number_quotation(match: re.Match[str]) -> str:
        quotations.append(match[1])
        return f"Q{len(quotations) - 1}"

    bare = _QUOTED.sub(number_quotation, evidence.verdict.explanation).rstrip(".")
    head, _, rest = bare.partition(": ")
    if not _head_is_right(head, evidence.verdict):
        yield head
    texts = _quotable_texts(evidence)
    for quotation in quotations:
        plain = quotation.removesuffix("…").strip()
        if not any(plain in text for text in texts):
            yield f"“{quotation}” occurs nowhere"
    for clause in rest.split("; "):
        matches = ((pattern.fullmatch(clause), check) for pattern, check in _CLAUSES)
        if not any(match and check(match, quotations, evidence) for match, check in matches):
            yield clause


def _head_is_right(head: str, verdict: Verdict) -> bool:
    match = _HEAD.fullmatch(head)
    if match is None or match[1] != verdict.label:
        return False
    if match[2][0] in "uo":
        return verdict.probability < 0.01 if match[2] == "under 0.01" else verdict.probability > 0.99
    return abs(float(match[2]) - verdict.probability) <= 0.0051


def _quotable_texts(evidence: Evidence) -> list[str]:
    record = evidence.verdict.record
    texts = [
        record.text,
        *record.events,
        *map(str, record.fields.values()),
        *(p.text for p in evidence.verdict.precedents),
    ]
    return [" ".join(shown.split()) for text in texts for shown in (text, mask(text))] + [
        event for case in evidence.cases for event in map(mask, case.events)
    ]


def _decided(match: re.Match[str], _: list[str], evidence: Evidence) -> bool:
    """The contributions to one fusion of the source's model; the named one is the greatest towards the label."""
    names = {"the language model": "language", "the precedents' labels": "neighbours", "its fields": "fields"}
    detector = names.get(match[2], "novelty" if "distance" in match[2] else "bias")
    contribution, total = float(match[3]), float(match[4])
    signals, p = evidence.verdict.signals, evidence.verdict.probability
    if abs(total - logit(p)) > 0.06:
        return False
    fitted = evidence.source_model["without_llm" if signals["language"] is None else "with_llm"]
    known: dict[str, Any] = {
        "weights": {"neighbours": 1.0},
        "bias": 0.0,
        # costs move it only so far for what the casebook holds
        "threshold": max(-1.9, min(1.9, evidence.source_model["without_llm"]["threshold"])),
    }
    for fusion in (known, fitted):
        if abs(float(match[5] or 0.0) - fusion["threshold"]) > 0.06:
            continue
        of_signals = {name: weight * (signals[name] or 0.0) for name, weight in fusion["weights"].items()}
        contributions = {**of_signals, "bias": fusion["bias"]}
        sign = {"anomalous": 1, "normal": -1}.get(evidence.verdict.label)
        # the bias decides only where no signal supports the label
        candidates = of_signals if sign and any(sign * value > 0 for value in of_signals.values()) else contributions
        greatest = max(candidates.values(), key=lambda value: sign * value if sign else abs(value))
        differences = (
            sum(contributions.values()) - total,
            contributions.get(detector, math.inf) - contribution,
            greatest - contribution,
        )
        if all(abs(difference) < 0.06 for difference in differences):
            return True
    return False


def _held(match: re.Match[str], _: list[str], evidence: Evidence) -> bool:
    record = evidence.verdict.record
    prose = (
        evidence.row.representation is not None
        and evidence.row.representation.field_encoder is None
        and "template" in match[1]
    )
    counts: Counter[str] = Counter()
    for case in evidence.cases:
        same = mask(case.text) == mask(record.text) if prose else case.content_hash == record.content_hash
        counts[case.label] += same * case.occurrences
    return (counts["anomalous"], counts["normal"]) == (int(match[2]), int(match[3]))


def _nearest(match: re.Match[str], quotations: list[str], evidence: Evidence) -> bool:
    near, quoted = evidence.nearest(match[1]), quotations[int(match[4])]
    return (
        near is not None
        and near.case_id == match[2]
        and abs(near.similarity - float(match[3])) <= 0.0051
        and " ".join(near.text.split()).startswith(quoted.removesuffix("…"))
    )


def _farther(match: re.Match[str], _: list[str], evidence: Evidence) -> bool:
    distances = evidence.source_model["nn_distance_quantiles"]
    own = 1 - max(precedent.similarity for precedent in evidence.verdict.precedents)
    return bool(abs(100 * sum(distance < own for distance in distances) / len(distances) - float(match[1])) <= 0.51)


def _between(match: re.Match[str], _: list[str], evidence: Evidence) -> bool:
    ends, p = evidence.verdict.unsure_band, evidence.verdict.probability
    stated = [float(match[1]), float(match[2])]
    close = all(abs(end - number) <= 0.0051 for end, number in zip(ends, stated, strict=True))
    return close and evidence.verdict.label == "unsure" and ends[0] < p < ends[1]


def _like_none(_: re.Match[str], __: list[str], evidence: Evidence) -> bool:
    own = 1 - max(precedent.similarity for precedent in evidence.verdict.precedents)
    far = is_unfamiliar(own, evidence.source_model["nn_distance_quantiles"], few=False)
    return evidence.verdict.label == "unsure" and far


def _compared(match: re.Match[str], quotations: list[str], evidence: Evidence) -> bool:
    near = evidence.nearest("normal")
    assert near is not None
    sessions = (evidence.verdict.record.events, near.text.split(" ; "))
    own, normal = (Counter(map(mask, events)) for events in sessions)

    def count(session: Counter[str], quoted: str) -> int:
        return sum(n for event, n in session.items() if event.startswith(quoted.removesuffix("…")))

    compared = list(_COUNTED.finditer(match[1]))
    return "".join(counts[0] for counts in compared) == match[1] and all(
        count(own, quotations[int(counts[2][1:])]) == int(counts[1] or 0)
        and count(normal, quotations[int(counts[2][1:])]) == int(counts[3].replace("none", "0"))
        for counts in compared
    )


def _follows(match: re.Match[str], quotations: list[str], evidence: Evidence) -> bool:
    """A step of the session: how often the normal cases have it after the same one to four events, counted again."""
    previous, event = (quotations[int(name[1:])] if name[0] == "Q" else None for name in (match[1], match[2]))
    session = [None, *evidence.verdict.record.events, None]
    places = [i for i in range(1, len(session)) if (session[i - 1], session[i]) == (previous, event)]
    normal = [
        ([*[None] * 4, *map(mask, case.events), None], case.occurrences)
        for case in evidence.cases
        if case.label == "normal"
    ]
    never = match[0].endswith("never follows it in normal cases")
    shares = [
        _shares(normal, [step and mask(step) for step in ([None] * 4 + session[1 : place + 1])[-5:]])
        for place in places
    ]
    return any(share[0] == 0 if never else min(share) <= _RARE for share in shares)


def _shares(sessions: Sequence[tuple[list[str | None], int]], step: list[str | None]) -> list[float]:
    """Of what follows the last one, two … events before the step's, the share that is its event."""
    shares = []
    for length in range(1, len(step)):
        after = Counter[str | None]()
        for session, occurrences in sessions:
            for i in range(4, len(session)):
                if session[i - length : i] == step[-1 - length : -1]:
                    after[session[i]] += occurrences
        shares.append(after[step[-1]] / after.total() if after else 0.0)
    return shares


def _outside(match: re.Match[str], _: list[str], evidence: Evidence) -> bool:
    """A number outside the range of the normal cases, which is computed again."""
    value = evidence.value(match[1])
    normal = [
        replace(
            evidence,
            verdict=evidence.verdict.model_copy(
                update={"record": Record(text="x", fields=case.fields, events=case.events)}
            ),
        )
        for case in evidence.cases
        if case.label == "normal"
    ]
    values = [number for of_case in normal if isinstance(number := of_case.value(match[1]), float)]
    extremes = [f"{extreme:g}" for extreme in (min(values), max(values))]
    beyond = isinstance(value, float) and (value > max(values) if match[3] == "above" else value < min(values))
    return beyond and f"{value:g}" == match[2] and extremes == [match[4], match[5]]


def _unseen(match: re.Match[str], quotations: list[str], evidence: Evidence) -> bool:
    value = quotations[int(match[2])]
    normal = {str(case.fields.get(match[1])) for case in evidence.cases if case.label == "normal"}
    return evidence.value(match[1]) == value and value not in normal


def _leans(match: re.Match[str], _: list[str], evidence: Evidence) -> bool:
    log_odds = evidence.verdict.signals["language"]
    if log_odds is None or abs(log_odds - float(match[2])) > 0.051:
        return False
    return (log_odds > 0) == (match[1] == "anomalous")


def _counterfactual(match: re.Match[str], quotations: list[str], evidence: Evidence) -> bool:
    """Apply the stated changes to the record's text or events, and judge it."""
    record = evidence.verdict.record
    text, events = record.text, list(record.events)
    changes = list(_CHANGE.finditer(match[1]))
    if not changes or "".join(change[0] for change in changes) != match[1]:
        return False
    for name, new, old, _ in (change.groups() for change in changes):
        if name.startswith("count of Q"):
            event = quotations[int(name.removeprefix("count of Q"))]
            places = [place for place, other in enumerate(events) if mask(other).startswith(event.removesuffix("…"))]
            if len(places) != int(old):
                return False
            added = [events[places[-1]] if places else event] * (int(new) - len(places))
            events = [other for place, other in enumerate(events) if place not in places[int(new) :]] + added
            text = " ; ".join(events)
        else:
            new, old = (quotations[int(value[1:])] if value.startswith("Q") else value for value in (new, old))
            text, replaced = re.subn(rf"(?<!\S){re.escape(name)} is \S+", f"{name} is {new}", text)
            value = evidence.value(name)
            if replaced != 1 or old not in (value, f"{value:.12g}" if isinstance(value, float) else ""):
                return False
    request = JudgeRequest(
        source=evidence.row.name, text=text, fields=split_pairs(text), events=tuple(events), explain="none"
    )
    return evidence.chain.invoke(request).label == "normal"


Check = Callable[[re.Match[str], list[str], Evidence], bool]
_CLAUSES: list[tuple[re.Pattern[str], Check]] = [
    (re.compile(r"would be normal if (.+)"), _counterfactual),
    (
        re.compile(rf"(decided by|weighing most:) (.+) \(weighed {_SIGNED}, in all {_SIGNED}{_THRESHOLD}\)"),
        _decided,
    ),
    (re.compile(r"from (\d\.\d\d) to (\d\.\d\d) either label would be wrong too often"), _between),
    (re.compile(r"no case is like it, so that it is not called normal"), _like_none),
    (re.compile(r"the casebook holds (.+): (\d+) labelled anomalous, (\d+) labelled normal"), _held),
    (re.compile(r"nearest (\w+) case: (c\d+) \(similarity (\d\.\d\d)\) Q(\d+)"), _nearest),
    (re.compile(r"the casebook holds no (\w+) case"), lambda match, _, evidence: evidence.nearest(match[1]) is None),
    (re.compile(r"it is farther from every case than (\d+) % of the cases are from each other"), _farther),
    (
        re.compile(
            r"after (Q\d+|the start) came (Q\d+|the end), which (?:never follows it in normal cases|normal cases "
            r"seldom have there)"
        ),
        _follows,
    ),
    (re.compile(r"unlike the nearest normal session it has (.+)"), _compared),
    (re.compile(r"unlike the nearest normal case it (says|lacks) [Q\d, a-z]+"), lambda *_: True),
    (re.compile(r"(.+) is (\S+), (above|below) all normal cases \((\S+) to (\S+)\)"), _outside),
    (re.compile(r"(.+) is Q(\d+), which no normal case has"), _unseen),
    (re.compile(r"the language model leans (\w+) \(log-odds ([+-]\d+\.\d)\)"), _leans),
]


# the model's sentences


def untraced(sentences: str, evidence: Evidence) -> Iterator[str]:
    """Numbers and case ids of the sentences that occur nowhere in the evidence."""
    verdict = evidence.verdict
    ids = {precedent.case_id for precedent in verdict.precedents}
    texts = [verdict.explanation, verdict.record.text, *(near.text for near in verdict.precedents), evidence.row.brief]
    numbers = {float(number) for text in texts for number in _NUMBER.findall(text.replace(",", ""))}
    for case_id in _CASE.findall(sentences):
        if case_id.lower() not in ids:
            yield f"case {case_id} in: {sentences}"
    for number in _NUMBER.findall(_CASE.sub(" ", sentences).replace(",", "")):
        if float(number) not in numbers:
            yield f"{number} in: {sentences}"
