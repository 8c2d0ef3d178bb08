"""What the agent can do, each as a function of plain arguments; all numbers and ids of its answers come from here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from langchain_core.runnables import Runnable

from agent.core.errors import UnknownSource, UsageError
from agent.core.records import Label, Verdict
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.data.readers.values import spell_out, typed
from agent.data.record_reading import has_own_text
from agent.pipeline.context import AppContext
from agent.pipeline.history import load_verdict
from agent.training.cases import CaseDetail, CasePage, delete_case, list_cases, relabel_case, show_case
from agent.training.drift import measure_drift
from agent.training.feedback import CorrectedCase, correct, refit_source_if_due, undo_correction
from retrieval.casebook import SourceSnapshot
from retrieval.store.case_changes import CaseChange

_BY = "chat"


@dataclass(frozen=True)
class HistoryView:
    """Verdicts of a source: how many of each label, and those most anomalous."""

    source: str
    counts: Mapping[str, int]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Trend:
    """Counts by label of the last day and of the week before it, and what drift was found."""

    source: str
    day: Mapping[str, int]
    week: Mapping[str, int]
    findings: tuple[str, ...]


class Tools:
    """The tools of the agent.

    Parameters
    ----------
    context : AppContext
    judge : callable
        Judges a record and keeps the verdict in the history.
    """

    def __init__(self, context: AppContext, judge: Callable[[JudgeRequest], Verdict]) -> None:
        self.context, self.judge = context, judge

    @cached_property
    def _trial(self) -> Runnable[Any, Verdict]:
        """Judges without keeping the verdict."""
        from agent.pipeline.pipeline import build

        return build(self.context)

    def verdict(self, verdict_id: str) -> Verdict:
        """A verdict of the history."""
        return load_verdict(self.context, verdict_id)

    def sources(self) -> list[SourceSnapshot]:
        """All sources."""
        casebook = self.context.casebook
        return [row for name in casebook.names() if (row := casebook.source(name))]

    def source(self, name: str) -> str:
        """The name of a source as it is written, whatever case it was typed in."""
        names = self.context.casebook.names()
        for known in names:
            if known.lower() == name.lower():
                return known
        raise UnknownSource(name, names)

    def what_if(self, verdict_id: str, values: Mapping[str, str]) -> tuple[Verdict, dict[str, Any]]:
        """The verdict if some fields had other values, which is not kept, and these values.

        Raises
        ------
        UsageError
            The record has no fields, or none of these.
        """
        verdict = self.verdict(verdict_id)
        record = verdict.record
        by_name = {name.lower(): name for name in record.fields}
        changed = {by_name[name.lower()]: typed(value) for name, value in values.items() if name.lower() in by_name}
        if not changed:
            raise UsageError("no field of the record is named")
        fields = {**record.fields, **changed}
        text = record.text if has_own_text(record) else spell_out(fields)
        hypothetical = record.model_copy(update={"fields": fields, "text": text})
        return self._trial.invoke(JudgeRequest.about(hypothetical, verdict.source)), changed

    def correct(self, verdict_id: str, label: Label) -> tuple[CorrectedCase, int]:
        """Label the record of a verdict, which a person has confirmed; the case, and the changes refitted, if any."""
        case = correct(self.context, verdict_id, label, _BY)
        return case, 0 if case.held else refit_source_if_due(self.context, self.verdict(verdict_id).source)

    def relabel(self, case_id: str, label: Label) -> CaseDetail:
        """Give a case another label, which a person has confirmed."""
        case = relabel_case(self.context, case_id, label, _BY)
        refit_source_if_due(self.context, case.source)
        return case

    def delete(self, case_id: str) -> CaseDetail:
        """Remove a case, which a person has confirmed."""
        case = delete_case(self.context, case_id, _BY)
        refit_source_if_due(self.context, case.source)
        return case

    def undo(self, changed: str) -> CaseChange:
        """Undo the last change of a verdict's record or of a case."""
        change = undo_correction(self.context, changed, _BY)
        refit_source_if_due(self.context, change.source)
        return change

    def case(self, case_id: str) -> CaseDetail:
        """A case and its history."""
        return show_case(self.context, case_id)

    def cases(self, source: str, label: Label | None, words: str, limit: int) -> CasePage:
        """Cases of a source with these words."""
        return list_cases(self.context, source, label, words, limit)

    def history(self, source: str, since: datetime | None, label: str | None, top: int) -> HistoryView:
        """How many verdicts there were since then, and the most anomalous of them."""
        name = self.context.source(source).name
        history = self.context.history
        bodies = history.most_anomalous(name, since, label, top)
        return HistoryView(name, history.counts(name, since), tuple(map(Verdict.model_validate, bodies)))

    def trend(self, source: str) -> Trend:
        """Whether a source's verdicts change: the last day beside the week before it, and drift."""
        name, now = self.context.source(source).name, datetime.now(UTC)
        day = now - timedelta(days=1)
        history = self.context.history
        return Trend(
            name,
            history.counts(name, day),
            history.counts(name, day - timedelta(days=7), day),
            tuple(measure_drift(self.context, name).findings),
        )

    def fields(self, source: str | None) -> list[str]:
        """The names of the fields that a source's records have."""
        row = self.context.casebook.source(source) if source else None
        options = ReadOptions.model_validate((row.reading if row else None) or {})
        return [column.name for column in options.table.columns]
