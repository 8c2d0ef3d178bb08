"""Where each clause of an explanation comes from: read back, and found again in the record, the cases or the judge."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import Runnable

from agent.core.numerics import logit
from agent.core.records import Precedent, Record, Verdict
from agent.core.requests import JudgeRequest
from agent.data.readers.values import parse_pairs
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
# a step's share that is seldom
_SELDOM = 0.02


@dataclass(frozen=True)
class Ground:
    """What an explanation of one verdict may rest on."""

    verdict: Verdict
    row: SourceSnapshot
    cases: Sequence[StoredCase]
    chain: Runnable[Any, Verdict]

    @property
    def judge(self) -> dict[str, Any]:
        assert self.row.source_model is not None
        return self.row.source_model

    def nearest(self, label: str) -> Precedent | None:
        return next((one for one in self.verdict.precedents if one.label == label), None)

    def value(self, name: str) -> float | str:
        """A field of the record, or how many events of a kind it has; '' for none."""
        record = self.verdict.record
        if record.events:
            kinds = Counter(mask(event) for event in record.events)
            totals = {"events": len(record.events), "kinds of event": len(kinds)}
            if name in totals or name.startswith("count of "):
                return float(totals.get(name, kinds[name.removeprefix("count of ")]))
        found = record.fields.get(name)
        return found if isinstance(found, str) else float(found) if found is not None else ""


def faults(ground: Ground) -> Iterator[str]:
    """Every clause of the facts that is not so, or that nothing here knows how to trace."""
    quotations: list[str] = []

    def put_aside(found: re.Match[str]) -> str:
        quotations.append(found[1])
        return f"Q{len(quotations) - 1}"

    bare = _QUOTED.sub(put_aside, ground.verdict.explanation).rstrip(".")
    head, _, rest = bare.partition(": ")
    if not _head_is_so(head, ground.verdict):
        yield head
    places = _haystacks(ground)
    for quotation in quotations:
        plain = quotation.removesuffix("…").strip()
        if not any(plain in place for place in places):
            yield f"“{quotation}” stands nowhere"
    for clause in rest.split("; "):
        matches = ((pattern.fullmatch(clause), check) for pattern, check in _CLAUSES)
        if not any(found and check(found, quotations, ground) for found, check in matches):
            yield clause


def _head_is_so(head: str, verdict: Verdict) -> bool:
    found = _HEAD.fullmatch(head)
    if found is None or found[1] != verdict.label:
        return False
    if found[2][0] in "uo":
        return verdict.probability < 0.01 if found[2] == "under 0.01" else verdict.probability > 0.99
    return abs(float(found[2]) - verdict.probability) <= 0.0051


def _haystacks(ground: Ground) -> list[str]:
    record = ground.verdict.record
    texts = [
        record.text,
        *record.events,
        *map(str, record.fields.values()),
        *(p.text for p in ground.verdict.precedents),
    ]
    return [" ".join(shown.split()) for text in texts for shown in (text, mask(text))] + [
        event for case in ground.cases for event in map(mask, case.events)
    ]


def _decided(found: re.Match[str], _: list[str], ground: Ground) -> bool:
    """The shares of one fusion of this judge, the told one being its greatest towards the label."""
    names = {"the language model": "language", "the precedents' labels": "neighbours", "its fields": "fields"}
    witness = names.get(found[2], "novelty" if "distance" in found[2] else "bias")
    share, total = float(found[3]), float(found[4])
    signals, p = ground.verdict.signals, ground.verdict.probability
    if abs(total - logit(p)) > 0.06:
        return False
    heard = ground.source_model["without_llm" if signals["language"] is None else "full"]
    known: dict[str, Any] = {
        "weights": {"neighbours": 1.0},
        "bias": 0.0,
        # costs move it only so far for what the casebook holds
        "threshold": max(-1.9, min(1.9, ground.source_model["without_llm"]["threshold"])),
    }
    for fusion in (known, heard):
        if abs(float(found[5] or 0.0) - fusion["threshold"]) > 0.06:
            continue
        shares = {name: weight * (signals[name] or 0.0) for name, weight in fusion["weights"].items()}
        shares["bias"], said = fusion["bias"], dict(shares)
        sign = {"anomalous": 1, "normal": -1}.get(ground.verdict.label)
        # a leaning decides only where no witness speaks for the label
        asked = said if sign and any(sign * one > 0 for one in said.values()) else shares
        greatest = max(asked.values(), key=lambda one: sign * one if sign else abs(one))
        figures = (sum(shares.values()) - total, shares.get(witness, math.inf) - share, greatest - share)
        if all(abs(figure) < 0.06 for figure in figures):
            return True
    return False


def _held(found: re.Match[str], _: list[str], ground: Ground) -> bool:
    record = ground.verdict.record
    prose = (
        ground.row.representation is not None
        and ground.row.representation.field_encoder is None
        and "template" in found[1]
    )
    counts: Counter[str] = Counter()
    for case in ground.cases:
        same = mask(case.text) == mask(record.text) if prose else case.content_hash == record.content_hash
        counts[case.label] += same * case.occurrences
    return (counts["anomalous"], counts["normal"]) == (int(found[2]), int(found[3]))


def _nearest(found: re.Match[str], quotations: list[str], ground: Ground) -> bool:
    near, quoted = ground.nearest(found[1]), quotations[int(found[4])]
    return (
        near is not None
        and near.case_id == found[2]
        and abs(near.similarity - float(found[3])) <= 0.0051
        and " ".join(near.text.split()).startswith(quoted.removesuffix("…"))
    )


def _farther(found: re.Match[str], _: list[str], ground: Ground) -> bool:
    distances = ground.source_model["nn_distance_quantiles"]
    own = 1 - max(one.similarity for one in ground.verdict.precedents)
    return bool(abs(100 * sum(one < own for one in distances) / len(distances) - float(found[1])) <= 0.51)


def _between(found: re.Match[str], _: list[str], ground: Ground) -> bool:
    ends, p = ground.verdict.unsure_band, ground.verdict.probability
    said = [float(found[1]), float(found[2])]
    close = all(abs(end - one) <= 0.0051 for end, one in zip(ends, said, strict=True))
    return close and ground.verdict.label == "unsure" and ends[0] < p < ends[1]


def _like_none(_: re.Match[str], __: list[str], ground: Ground) -> bool:
    own = 1 - max(one.similarity for one in ground.verdict.precedents)
    return ground.verdict.label == "unsure" and own > max(ground.source_model["nn_distance_quantiles"])


def _compared(found: re.Match[str], quotations: list[str], ground: Ground) -> bool:
    near = ground.nearest("normal")
    assert near is not None
    mine, theirs = (Counter(map(mask, one)) for one in (ground.verdict.record.events, near.text.split(" ; ")))

    def count(session: Counter[str], quoted: str) -> int:
        return sum(n for event, n in session.items() if event.startswith(quoted.removesuffix("…")))

    compared = list(_COUNTED.finditer(found[1]))
    return "".join(one[0] for one in compared) == found[1] and all(
        count(mine, quotations[int(one[2][1:])]) == int(one[1] or 0)
        and count(theirs, quotations[int(one[2][1:])]) == int(one[3].replace("none", "0"))
        for one in compared
    )


def _follows(found: re.Match[str], quotations: list[str], ground: Ground) -> bool:
    """A step of the session; counted anew, how often the normal cases have it after the same one to four events."""
    before, what = (quotations[int(one[1:])] if one[0] == "Q" else None for one in (found[1], found[2]))
    mine = [None, *ground.verdict.record.events, None]
    places = [i for i in range(1, len(mine)) if (mine[i - 1], mine[i]) == (before, what)]
    normal = [
        ([*[None] * 4, *map(mask, one.events), None], one.occurrences) for one in ground.cases if one.label == "normal"
    ]
    said = found[0].endswith("never follows it in normal cases")
    shares = [
        _share(normal, [one and mask(one) for one in ([None] * 4 + mine[1 : place + 1])[-5:]]) for place in places
    ]
    return any(share[0] == 0 if said else min(share) <= _SELDOM for share in shares)


def _share(sessions: Sequence[tuple[list[str | None], int]], step: list[str | None]) -> list[float]:
    """Of what follows the last one, two … events before the step's, the share that is its event."""
    shares = []
    for length in range(1, len(step)):
        after = Counter[str | None]()
        for one, times in sessions:
            for i in range(4, len(one)):
                if one[i - length : i] == step[-1 - length : -1]:
                    after[one[i]] += times
        shares.append(after[step[-1]] / after.total() if after else 0.0)
    return shares


def _outside(found: re.Match[str], _: list[str], ground: Ground) -> bool:
    """A number that lies outside what the normal cases have, whose extremes are counted anew."""
    value = ground.value(found[1])
    normal = [
        Ground(ground.verdict.model_copy(update={"record": Record(text="x", fields=c.fields, events=c.events)}), *rest)
        for rest in [(ground.row, ground.cases, ground.chain)]
        for c in ground.cases
        if c.label == "normal"
    ]
    values = [v for one in normal if isinstance(v := one.value(found[1]), float)]
    extremes = [f"{extreme:g}" for extreme in (min(values), max(values))]
    beyond = isinstance(value, float) and (value > max(values) if found[3] == "above" else value < min(values))
    return beyond and f"{value:g}" == found[2] and extremes == [found[4], found[5]]


def _unseen(found: re.Match[str], quotations: list[str], ground: Ground) -> bool:
    value = quotations[int(found[2])]
    normal = {str(case.fields.get(found[1])) for case in ground.cases if case.label == "normal"}
    return ground.value(found[1]) == value and value not in normal


def _leans(found: re.Match[str], _: list[str], ground: Ground) -> bool:
    said = ground.verdict.signals["language"]
    return said is not None and abs(said - float(found[2])) <= 0.051 and (said > 0) == (found[1] == "anomalous")


def _carried_out(found: re.Match[str], quotations: list[str], ground: Ground) -> bool:
    """Change the record's own text or events as it is said, and judge it."""
    record = ground.verdict.record
    text, events = record.text, list(record.events)
    changes = list(_CHANGE.finditer(found[1]))
    if not changes or "".join(one[0] for one in changes) != found[1]:
        return False
    for name, new, old, _ in (one.groups() for one in changes):
        if name.startswith("count of Q"):
            event = quotations[int(name.removeprefix("count of Q"))]
            mine = [place for place, one in enumerate(events) if mask(one).startswith(event.removesuffix("…"))]
            if len(mine) != int(old):
                return False
            more = [events[mine[-1]] if mine else event] * (int(new) - len(mine))
            events = [one for place, one in enumerate(events) if place not in mine[int(new) :]] + more
            text = " ; ".join(events)
        else:
            new, old = (quotations[int(one[1:])] if one.startswith("Q") else one for one in (new, old))
            text, replaced = re.subn(rf"(?<!\S){re.escape(name)} is \S+", f"{name} is {new}", text)
            value = ground.value(name)
            if replaced != 1 or old not in (value, f"{value:.12g}" if isinstance(value, float) else ""):
                return False
    question = JudgeRequest(
        source=ground.row.name, text=text, fields=parse_pairs(text), events=tuple(events), explain="none"
    )
    return ground.chain.invoke(question).label == "normal"


Check = Callable[[re.Match[str], list[str], Ground], bool]
_CLAUSES: list[tuple[re.Pattern[str], Check]] = [
    (re.compile(r"would be normal if (.+)"), _carried_out),
    (
        re.compile(rf"(decided by|weighing most:) (.+) \(weighed {_SIGNED}, in all {_SIGNED}{_THRESHOLD}\)"),
        _decided,
    ),
    (re.compile(r"from (\d\.\d\d) to (\d\.\d\d) either label would be wrong too often"), _between),
    (re.compile(r"no case is like it, so that it is not called normal"), _like_none),
    (re.compile(r"the casebook holds (.+): (\d+) labelled anomalous, (\d+) labelled normal"), _held),
    (re.compile(r"nearest (\w+) case: (c\d+) \(similarity (\d\.\d\d)\) Q(\d+)"), _nearest),
    (re.compile(r"the casebook holds no (\w+) case"), lambda found, _, ground: ground.nearest(found[1]) is None),
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


def untraced(sentences: str, ground: Ground) -> Iterator[str]:
    """Numbers and case ids of the sentences that stand nowhere else."""
    verdict = ground.verdict
    ids = {one.case_id for one in verdict.precedents}
    grounds = [verdict.explanation, verdict.record.text, *(one.text for one in verdict.precedents), ground.row.brief]
    numbers = {float(found) for text in grounds for found in _NUMBER.findall(text.replace(",", ""))}
    for found in _CASE.findall(sentences):
        if found.lower() not in ids:
            yield f"case {found} in: {sentences}"
    for found in _NUMBER.findall(_CASE.sub(" ", sentences).replace(",", "")):
        if float(found) not in numbers:
            yield f"{found} in: {sentences}"
