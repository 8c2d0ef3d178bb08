"""Single cases of a casebook: listed, shown with their history, relabelled and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from agent.core.access import Role, require, signed
from agent.core.errors import UnknownCase
from agent.core.records import Case, Label, Record, clean_text
from agent.pipeline.context import AppContext
from agent.training.opposing_corrections import HeldView, hold_if_opposing
from retrieval.store.case_changes import CaseChange
from retrieval.store.schema import in_utc


class ChangeView(BaseModel):
    """Who changed the label of a record when; None as a label: it was, or is, no case."""

    change_id: str
    action: str
    case_id: str
    label_before: str | None
    label_after: str | None
    changed_by: str
    changed_at: datetime
    verdict_id: str | None
    undone: bool

    @classmethod
    def of(cls, change: CaseChange) -> ChangeView:
        """The view of a stored change."""
        values = {name: getattr(change, name) for name in cls.model_fields}
        return cls(**{**values, "changed_at": in_utc(change.changed_at)})


class CaseView(Case):
    """A case with its source, and the value of the label column that it was learned with."""

    source: str
    label_value: str | None = None
    occurrences: int = 1


class CaseDetail(CaseView):
    """A case, and the changes of its record's label, oldest first.

    ``held``: the correction just sent, if it waits for a second person; the label is as it was then.
    """

    history: list[ChangeView]
    held: HeldView | None = Field(None, exclude_if=lambda held: held is None)


class CasePage(BaseModel):
    """Some of the cases of a source, newest first, and how many match in all."""

    source: str
    total: int
    cases: list[CaseView]


def list_cases(
    context: AppContext,
    source: str | None = None,
    label: Label | None = None,
    text: str = "",
    limit: int = 50,
    offset: int = 0,
) -> CasePage:
    """The cases of a source, the newest first.

    Parameters
    ----------
    source : str, optional
        By default the only one there is.
    text : str
        Words, all of which a case's text has.

    Raises
    ------
    UnknownSource, UsageError
        There is no such source, or none was named and there are several.
    """
    name = context.source(source).name
    rows, total = context.case_rows.newest(name, label, text.split(), limit, offset)
    return CasePage(source=name, total=total, cases=[CaseView(**_values(row)) for row in rows])


def show_case(context: AppContext, case_id: str) -> CaseDetail:
    """A case and its history.

    Raises
    ------
    UnknownCase
        There is no such case.
    """
    # what the store cannot hold is no id
    row = context.case_rows.get(case_id) if clean_text(case_id) == case_id else None
    if row is None:
        raise UnknownCase(case_id)
    changes = context.case_rows.changes(row["source"], row["hash"])
    return CaseDetail(**_values(row), history=[ChangeView.of(change) for change in changes])


def relabel_case(context: AppContext, case_id: str, label: Label, by: str = "a person") -> CaseDetail:
    """Give a case another label; it is then the only case with its content.

    A change that opposes what others labelled may have to wait; see `agent.training.opposing_corrections`.

    Raises
    ------
    UnknownCase
        There is no such case.
    Forbidden
        The caller's role is not enough.
    """
    require(Role.CORRECT)
    case, by = show_case(context, case_id), signed(by)
    if case.label == label:
        return case
    with context.correcting:
        held = hold_if_opposing(context, case.source, case.record, label, by, case_id=case_id)
        if held is None and context.casebook.change_case(case_id, label, by) is None:
            raise UnknownCase(case_id)
    changed = show_case(context, case_id)
    return changed.model_copy(update={"held": HeldView.of(held, case.record, case.label)}) if held else changed


def case_record_of(context: AppContext, case_id: str) -> tuple[Record | None, str | None]:
    """The record and the label of a case; None: there is none of that id any more."""
    row = context.case_rows.get(case_id)
    return (record_of_row(row), row["label"]) if row else (None, None)


def record_of_row(row: Mapping[str, Any]) -> Record:
    """The record of a case as it is stored."""
    return Record(**{name: row[name] for name in ("text", "fields", "events", "file", "line", "time", "series")})


def delete_case(context: AppContext, case_id: str, by: str = "a person") -> CaseDetail:
    """Remove a case; returns it as it was. `agent.training.feedback.undo_correction` brings it back.

    Raises
    ------
    UnknownCase
        There is no such case.
    Forbidden
        The caller's role is not enough.
    """
    require(Role.ADMIN)
    case = show_case(context, case_id)
    if context.casebook.change_case(case_id, None, signed(by)) is None:
        raise UnknownCase(case_id)
    return case


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: row[name] for name in ("source", "label", "label_value", "occurrences", "given_by")}
    return {**values, "record": record_of_row(row), "given_at": in_utc(row["given_at"]), "case_id": f"c{row['id']}"}
