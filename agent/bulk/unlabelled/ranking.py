"""Files without labels as ranked events: what an operator should look at first. Nothing is called anomalous."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from agent.bulk.summary import Seen
from agent.bulk.unlabelled import scoring
from agent.bulk.unlabelled.context_lines import read_context
from agent.bulk.unlabelled.linking import link
from agent.bulk.unlabelled.models import Event, EventTemplate, Parameter, Ranking
from agent.bulk.unlabelled.patterns import Pattern, find_patterns
from agent.bulk.unlabelled.scan import Scan, scan_files
from agent.bulk.unlabelled.severity import error_words, level, level_of_value, status_severity
from agent.bulk.unlabelled.times import spell
from agent.core.errors import InputError
from agent.core.progress import Progress
from agent.core.records import Record
from agent.data.read_options import ReadOptions

_BINS, _COMPANIONS, _VALUES, _PARAMETERS = 24, 40, 8, 4
_LATE, _RUN, _DIVERSIFIED = 0.5, 8, 3
_WORD, _PLACEHOLDER = re.compile(r"[^\W\d_]{2,}"), re.compile(r"<[^<>\s]+>")
_LEVEL_COLUMNS = frozenset({"level", "severity", "lvl", "loglevel", "log_level", "log.level", "priority", "levelname"})


def rank_templates(
    paths: Sequence[str],
    read_options: ReadOptions,
    *,
    against: Sequence[str] = (),
    limit: int = 100,
    context_lines: int = 2,
    max_chars: int = 65_536,
    progress: Progress | None = None,
) -> Ranking:
    """Rank what files without labels hold, the most unusual first.

    Parameters
    ----------
    paths : sequence of str
        Files to read as one input; see `agent.data.inputs.expand_inputs`.
    read_options : ReadOptions
    against : sequence of str
        Older files of the same system: what they lack, or have far less of, comes first.
    limit : int
        Most events that are returned.
    context_lines : int
        Lines before and after the first record of each.
    max_chars : int
        Characters of a record beyond which it loses its middle.
    progress : callable, optional
        See `agent.core.terminal.progress`.

    Raises
    ------
    InputError
        A file cannot be read, or there is nothing to rank.
    """
    show = progress or (lambda *_: None)
    scan = scan_files(paths, read_options, max_chars, show)
    if not len(scan.templates):
        raise InputError("has no records: nothing but blank lines or a header", paths[0] if paths else None)
    older = scan_files(against, read_options, max_chars, show) if against else None
    ranked = _Ranker(scan, older).events(limit)
    events = tuple(
        event.model_copy(update={"context": context})
        for event, context in zip(ranked.events, read_context(ranked.events, context_lines), strict=True)
    )
    return ranked.model_copy(update={"events": events, "against": tuple(against)})


class _Ranker:
    """Ranks the events of one scan."""

    def __init__(self, scan: Scan, older: Scan | None) -> None:
        self._scan, self._older = scan, older
        masked = scan.masked + (older.masked if older else [])
        self._patterns = find_patterns(masked)
        of_template = np.zeros(len(masked), np.int32)
        for number, pattern in enumerate(self._patterns):
            of_template[pattern.members] = number
        numbers = of_template[scan.templates]
        order = np.argsort(numbers, kind="stable")
        found, starts = np.unique(numbers[order], return_index=True)
        self._positions = dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True))
        self._template_counts = np.bincount(scan.templates, minlength=len(masked))
        self._older_counts = (
            np.bincount(of_template[older.templates + len(scan.masked)], minlength=len(self._patterns))
            if older is not None
            else None
        )

    def events(self, limit: int) -> Ranking:
        """The ranking, without context lines."""
        scan, shown = self._scan, list(self._positions)
        addresses = [self._addresses(number) for number in shown]
        groups = link(
            [self._positions[number] for number in shown],
            scan.times if scan.has_times else None,
            addresses,
            [self._patterns[number].text for number in shown],
            [self._levels[number] is not None and self._levels[number][1] >= 0.9 for number in shown],  # type: ignore[index]
        )
        scores = {number: scoring.score(self._parts[number][0]) for number in shown}
        events = [sorted((shown[index] for index in group), key=lambda n: (-scores[n], n)) for group in groups]
        totals = {group[0]: scoring.score(self._event_parts(group)) for group in events}
        events.sort(key=lambda group: (-totals[group[0]], int(self._positions[group[0]][0])))
        # far down nothing needs to be distinguished
        first = events[: _DIVERSIFIED * limit]
        order = scoring.diversified([totals[group[0]] for group in first], [self._telling(group[0]) for group in first])
        ranked = [*(first[index] for index in order), *events[len(first) :]]
        times = scan.times
        return Ranking(
            files=tuple(scan.names),
            records=len(scan.templates),
            templates=len(shown),
            events=tuple(
                self._event(rank, group, totals[group[0]]) for rank, group in enumerate(ranked[:limit], start=1)
            ),
            more=max(0, len(ranked) - limit),
            start=self._moment(0) if len(times) else None,
            end=self._moment(len(times) - 1) if len(times) else None,
            unreadable=tuple(map(str, scan.failures)),
            has_numbers=scan.has_numbers,
        )

    @cached_property
    def _levels(self) -> dict[int, tuple[str, float] | None]:
        return {number: self._level(self._example(number)) for number in self._positions}

    @staticmethod
    def _level(record: Record) -> tuple[str, float] | None:
        for name, value in record.fields.items():
            if name.casefold() in _LEVEL_COLUMNS and (found := level_of_value(str(value))):
                return found
        return level(record.text.split("\n", 1)[0])

    @cached_property
    def _parts(self) -> dict[int, tuple[dict[str, float], scoring.Burst | None]]:
        """By pattern: the parts of its score, and its burst."""
        records = len(self._scan.templates)
        firsts = np.array([int(positions[0]) for positions in self._positions.values()], np.int64)
        novelty = scoring.first_appearance(firsts, records)
        times = self._scan.times if self._scan.has_times else None
        found = {}
        for new, (number, positions) in zip(novelty.tolist(), self._positions.items(), strict=True):
            named, words = self._levels[number], error_words(self._patterns[number].text)
            distinct = max([len(self._addresses(number)), *(p.distinct for p in self._words(number))])
            severity = None if named is None else named[1]
            parts, burst = scoring.parts_of(
                positions,
                records,
                times,
                level=severity,
                words=words,
                status=status_severity(self._example(number).text),
                novelty=new,
                distinct=distinct,
            )
            if self._older is not None and self._older_counts is not None:
                older = int(self._older_counts[number])
                parts["change"] = scoring.rate_change(len(positions), records, older, len(self._older.templates))
                parts["novelty"] = 0.0
            found[number] = parts, burst
        return found

    def _example(self, number: int) -> Record:
        """The first record of a pattern."""
        return self._scan.examples[int(self._scan.templates[self._positions[number][0]])]

    def _addresses(self, number: int) -> Counter[int]:
        found = self._scan.addresses[self._positions[number]]
        values, counts = np.unique(found[found >= 0], return_counts=True)
        return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def _words(self, number: int) -> list[Parameter]:
        """What stands at the wildcards of a pattern."""
        pattern: Pattern = self._patterns[number]
        found = []
        for place, values in pattern.values.items():
            counts = Counter[str]()
            for member, value in zip(pattern.members, values, strict=True):
                if count := int(self._template_counts[member]):
                    counts[value or "(empty)"] += count
            # what masking made of addresses in several ways says nothing
            if any(_PLACEHOLDER.sub("", value) for value in counts):
                found.append(_parameter(pattern.name(place), counts))
        return sorted(found, key=lambda parameter: -parameter.distinct)

    def _event_parts(self, group: Sequence[int]) -> dict[str, float]:
        """The parts of an event's score: those of its most unusual pattern, and how many records it has."""
        records = sum(len(self._positions[number]) for number in group)
        return {**self._parts[group[0]][0], "volume": scoring.volume(records, len(self._scan.templates))}

    def _event(self, rank: int, group: Sequence[int], score: float) -> Event:
        scan, main = self._scan, self._main(group)
        places = np.sort(np.concatenate([self._positions[number] for number in group]))
        parts, burst = self._event_parts(group), self._parts[group[0]][1]
        names = Counter[str]()
        for number in group:
            for address, count in self._addresses(number).items():
                name = scan.address_names[address]
                # a template that comes with another one has its addresses as well
                names[name] = max(names[name], count)
        parameters = ([_parameter("address", names)] if names else []) + self._words(main)
        return Event(
            rank=rank,
            score=round(score, 4),
            parts={name: round(value, 3) for name, value in parts.items()},
            reasons=tuple(self._reasons(group[0], parts, burst, names, len(group))),
            pattern=self._patterns[main].text,
            example=self._example(main),
            count=len(self._positions[main]),
            records=len(places),
            templates=len(group),
            first=self._seen(int(places[0])),
            last=self._seen(int(places[-1])),
            counts=self._histogram(places),
            parameters=tuple(parameters[:_PARAMETERS]),
            level=named[0] if (named := self._levels[main]) else None,
            companions=tuple(
                EventTemplate(
                    pattern=self._patterns[number].text,
                    example=self._example(number),
                    count=len(self._positions[number]),
                )
                for number in [other for other in group if other != main][:_COMPANIONS]
            ),
        )

    def _telling(self, number: int) -> frozenset[str]:
        """The words of a pattern that most others lack."""
        return frozenset(word for word in _words_of(self._patterns[number]) if word not in self._usual_words)

    @cached_property
    def _usual_words(self) -> frozenset[str]:
        counts = Counter(word for number in self._positions for word in _words_of(self._patterns[number]))
        return frozenset(word for word, count in counts.items() if count > max(3, 0.3 * len(self._positions)))

    def _main(self, group: Sequence[int]) -> int:
        """The pattern that stands for an event: the most unusual, of a long run of single records the first."""
        if len(group) < _RUN or len(self._positions[group[0]]) > 1:
            return group[0]
        return min(group, key=lambda number: int(self._positions[number][0]))

    def _reasons(
        self, number: int, parts: dict[str, float], burst: scoring.Burst | None, addresses: Counter[str], templates: int
    ) -> list[str]:
        scan, positions = self._scan, self._positions[number]
        records, reasons = len(scan.templates), []
        named = self._levels[number]
        if named and named[1] >= 0.5:
            reasons.append(f"level {named[0]}")
        elif status_severity(self._example(number).text):
            reasons.append("a status of failure")
        elif parts["severity"] > 0.1:
            reasons.append("words for an error")
        if "change" in parts and parts["change"] > 0:
            reasons.append("not in the older files" if parts["change"] == 1 else "more often than in the older files")
        if len(positions) <= max(3, 0.002 * records):
            reasons.append(f"rare: {len(positions):,} of {records:,} records")
        if burst is not None:
            seconds = scan.times[burst.end] - scan.times[burst.start] if scan.has_times else None
            within = _duration(seconds) if seconds is not None else f"{burst.end - burst.start + 1:,} records"
            reasons.append(f"burst: {burst.count:,} of its {len(positions):,} within {within}")
        if parts["novelty"] > 0.2 and positions[0] > _LATE * records:
            reasons.append(f"first seen after {positions[0] / records:.0%} of the records")
        if len(addresses) > 1:
            (top, count), total = addresses.most_common(1)[0], sum(addresses.values())
            reasons.append(f"{len(addresses):,} addresses, {count / total:.0%} from {top}")
        if templates > 1:
            reasons.append(f"{templates:,} templates that occur together")
        return reasons

    def _histogram(self, places: NDArray[np.int64]) -> tuple[int, ...]:
        scan, records = self._scan, len(self._scan.templates)
        if scan.has_times and scan.times.max() > scan.times.min():
            values, span = scan.times[places], (float(scan.times.min()), float(scan.times.max()))
        else:
            values, span = places.astype(np.float64), (0.0, float(max(records - 1, 1)))
        return tuple(np.histogram(values, bins=_BINS, range=span)[0].tolist())

    def _seen(self, place: int) -> Seen:
        scan = self._scan
        return Seen(file=scan.names[int(scan.files[place])], line=int(scan.lines[place]), time=self._moment(place))

    def _moment(self, place: int) -> str | None:
        time = float(self._scan.times[place])
        return None if np.isnan(time) else spell(time)


def _words_of(pattern: Pattern) -> set[str]:
    return {word.casefold() for word in _WORD.findall(_PLACEHOLDER.sub(" ", pattern.text))}


def _parameter(name: str, counts: Counter[str]) -> Parameter:
    return Parameter(name=name, distinct=len(counts), top=tuple(counts.most_common(_VALUES)))


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}s"
    return f"{max(seconds, 1):.0f} s"
