"""Verdicts of the pieces of a watch: each template of a log is judged once, rows of tables each by itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from agent.bulk.group_judge import Budget, GroupJudge, Result
from agent.bulk.output import Detail, LineFormatter
from agent.bulk.report import why
from agent.bulk.summary import Group, Seen
from agent.bulk.template_grouping import TemplateGroup, TemplateGrouper
from agent.bulk.unread_lines import unread_lines
from agent.bulk.watch_feed import Piece
from agent.core.records import JudgeError, Verdict
from agent.data.readers import ParsedRow, RowError, read_rows
from agent.data.readers.byte_stream import Stream
from agent.pipeline.context import AppContext
from retrieval.encoding.representation import Representation
from retrieval.store.watch import LiveGroup

# groups after which those met are forgotten, and characters of a text that is shown
_MOST_GROUPS, _TEXT_CHARS = 100_000, 500


@dataclass
class JudgedPiece:
    """One piece with its verdicts."""

    file: str
    formatter: LineFormatter
    results: Sequence[Result]
    templates: Sequence[TemplateGroup]
    places: Sequence[tuple[int, int]]
    failures: list[RowError | JudgeError]
    texts: Callable[[Sequence[int]], Sequence[str]]

    @property
    def counts(self) -> Counter[str]:
        """Records by label."""
        groups = Counter(group for _, group in self.places)
        counts = Counter[str]()
        for group, count in groups.items():
            result = self.results[group]
            if isinstance(result, Verdict):
                counts[result.label] += count
        return counts

    def lines(self, only: frozenset[str]) -> Iterator[bytes]:
        """The lines of the output."""
        kept = [
            index
            for index, (_, group) in enumerate(self.places)
            if isinstance(result := self.results[group], Verdict) and result.label in only
        ]
        lines = np.array([self.places[index][0] for index in kept], np.int64)
        groups = np.array([self.places[index][1] for index in kept], np.int64)
        yield from self.formatter.format_lines(self.file, lines, groups, lambda: self.texts(kept))

    def groups(self, source: str) -> Iterator[LiveGroup]:
        """The templates that are not normal."""
        now = datetime.now(UTC)
        found: dict[int, list[int]] = {}
        for line, group in self.places:
            result = self.results[group]
            if isinstance(result, Verdict) and result.label != "normal":
                found.setdefault(group, []).append(line)
        for group, lines in found.items():
            verdict = self.results[group]
            assert isinstance(verdict, Verdict)
            template = self.templates[group].template_id
            seen = Seen(file=self.file, line=lines[0])
            facts = Group(template=template, verdict=verdict, count=len(lines), first=seen, last=seen)
            yield LiveGroup(
                source=source,
                template=template,
                label=verdict.label,
                verdict_id=verdict.id,
                probability=verdict.probability,
                text=verdict.record.text[:_TEXT_CHARS],
                why=why(facts),
                count=len(lines),
                first_at=now,
                last_at=now,
                first_seen=f"{self.file}:{lines[0]}",
                last_seen=f"{self.file}:{lines[-1]}",
            )


class PieceJudge:
    """Judges pieces with the source as it was at one revision; each template is judged once."""

    def __init__(self, context: AppContext, source: str, detail: Detail, revision: int) -> None:
        row = context.source(source)
        self._context, self._detail, self._revision = context, detail, revision
        self._representation = row.representation or Representation()
        self._judge = GroupJudge(context, source, "facts", Budget(), lambda *_: None)
        by_text = bool((row.source_model or {}).get("by_text"))
        templates = context.casebook.templates(source) if by_text else {}
        is_plain = not (self._representation.field_encoder or self._representation.prose)
        texts = context.casebook.texts(source) if is_plain else []
        self._is_plain = is_plain
        self._grouper = TemplateGrouper(self._representation, texts, lambda key: by_text and key not in templates)
        self._formatter = LineFormatter(detail, "jsonl")
        self._results: list[Result] = []

    def is_outdated(self, revision: int) -> bool:
        """Whether the source has changed, or so much is kept that it is forgotten."""
        return revision != self._revision or len(self._results) > _MOST_GROUPS

    def judge(self, piece: Piece) -> JudgedPiece:
        """The verdicts of one piece."""
        request = piece.request
        if piece.kind == "log" and not request.text and request.label in (None, "0") and self._is_plain:
            return self._lines(piece)
        return self._rows(piece)

    def _lines(self, piece: Piece) -> JudgedPiece:
        prepared = self._grouper.prepare(piece.chunk, piece.request)
        numbers = self._grouper.assign(prepared)
        failures: list[RowError | JudgeError] = [*unread_lines(prepared, numbers)]
        if new := self._grouper.groups[len(self._results) :]:
            results = self._judge.verdicts(new)
            self._results += results
            for group, result in zip(new, results, strict=True):
                self._formatter.add_group(result, group.id)
            failures += [result for result in results if isinstance(result, JudgeError)]
        judged = np.flatnonzero(numbers >= 0)
        places = list(zip((piece.chunk.first + judged).tolist(), numbers[judged].tolist(), strict=True))

        def texts(indices: Sequence[int]) -> Sequence[str]:
            return prepared.texts(judged[np.array(indices, np.int64)])

        groups = self._grouper.groups
        return JudgedPiece(piece.request.file, self._formatter, self._results, groups, places, failures, texts)

    def _rows(self, piece: Piece) -> JudgedPiece:
        """Records that are more than a text, each by itself."""
        chunk, before = piece.chunk, int(bool(piece.header))
        items = list(read_rows(Stream(iter([piece.header + chunk.data])), piece.kind, piece.request))
        failures: list[RowError | JudgeError] = [item for item in items if isinstance(item, RowError)]
        records = [item.record for item in items if isinstance(item, ParsedRow)]
        # numbers are those in the piece
        records = [
            record.model_copy(update={"line": chunk.first + (record.line or 1) - 1 - before}) for record in records
        ]
        groups = []
        for number, record in enumerate(records):
            content = record.content_hash
            key = hashlib.sha256(f"{content}\0{number}".encode()).hexdigest()
            groups.append(TemplateGroup(key, self._representation.key(record, content), record))
        results = self._judge.verdicts(groups, store=False)
        failures += [result for result in results if isinstance(result, JudgeError)]
        formatter = LineFormatter(self._detail, "jsonl")
        places = [(record.line or 0, number) for number, record in enumerate(records)]
        return JudgedRows(
            piece.request.file,
            formatter,
            results,
            groups,
            places,
            failures,
            lambda chosen: [records[i].text for i in chosen],
        )


class JudgedRows(JudgedPiece):
    """As `JudgedPiece`, of records with fields: the whole verdict of each is its own."""

    def lines(self, only: frozenset[str]) -> Iterator[bytes]:
        """The lines of the output."""
        for _, group in self.places:
            result = self.results[group]
            if isinstance(result, Verdict) and result.label in only:
                yield self.formatter.format_verdict(result, self.templates[group].template_id)
