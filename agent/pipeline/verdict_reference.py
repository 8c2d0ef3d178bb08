"""The verdict that a person means by its id, by its template's id, or by FILE:LINE."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from agent.core.errors import UnknownVerdict, UsageError
from agent.core.records import Record, Verdict
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.pipeline.context import AppContext
from agent.pipeline.history import load_verdict
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_one
from retrieval.encoding.representation import Representation
from retrieval.store.verdicts import PlacedVerdict

_TEMPLATE = re.compile(r"t[0-9a-f]{15}")
_PLACE = re.compile(r"(?P<file>.+):(?P<line>[0-9]{1,10})")
# verdicts of a source that are searched for a template; ids that a message lists
_SEARCHED, _LISTED = 20_000, 5
# within it are the verdicts on the records of one line; the same line of another run comes later
_ONE_RUN = timedelta(seconds=2)


def find_verdict(context: AppContext, reference: str) -> Verdict:
    """The verdict that is meant.

    Parameters
    ----------
    context
    reference
        The id of a verdict; of a template, as bulk runs write it; or the file and the line of a record, of the last run
        over that file. A record of which a bulk run stored no verdict, because another one has its template, is judged.

    Raises
    ------
    UnknownVerdict
        There is no such verdict.
    UsageError
        Several are meant.
    """
    if _TEMPLATE.fullmatch(reference):
        return _of_template(context, reference)
    if (place := _PLACE.fullmatch(reference)) is not None:
        return _of_place(context, place["file"], int(place["line"]))
    return load_verdict(context, reference)


def explained(context: AppContext, verdict: Verdict) -> Verdict:
    """The verdict; one that was given without an explanation, as to rows in bulk, is given again with one."""
    if verdict.explanation:
        return verdict
    return judge_one(context, build(context), JudgeRequest.about(verdict.record, verdict.source))


def _of_template(context: AppContext, template: str) -> Verdict:
    """The newest verdict on a record of the template."""
    found = list[dict[str, Any]]()
    for name in context.casebook.names():
        representation = context.source(name).representation or Representation()
        bodies = (body for body, _ in context.history.recent(name, _SEARCHED))
        first = next((body for body in bodies if template in _templates(body, representation)), None)
        found += [first] if first is not None else []
    if not found:
        raise UnknownVerdict(template)
    if len(found) > 1:
        raise _ambiguous(f"template {template}", [f"{body['id']} of source {body['source']}" for body in found])
    return Verdict.model_validate(found[0])


def _templates(body: dict[str, Any], representation: Representation) -> set[str]:
    """The ids of the template that bulk runs write for a verdict."""
    record = Record.model_validate(body["record"])
    return {f"t{key[:15]}" for key in (representation.key(record, record.content_hash), record.content_hash)}


def _of_place(context: AppContext, file: str, line: int) -> Verdict:
    stored = _of_file(context.history.at_line(line), file)
    if not stored:
        return _judged(context, file, line)
    newest = stored[0]
    last_run = [
        row
        for row in stored
        if row.body["source"] == newest.body["source"] and newest.judged_at - row.judged_at <= _ONE_RUN
    ]
    contents = {Record.model_validate(row.body["record"]).content_hash: row.body for row in reversed(last_run)}
    if len(contents) > 1:
        raise _ambiguous(f"{file}:{line}", [str(body["id"]) for body in contents.values()])
    return Verdict.model_validate(newest.body)


def _of_file(rows: Sequence[PlacedVerdict], file: str) -> list[PlacedVerdict]:
    """Those on records of the file: by the name that it had then, or else by the end of that name.

    Raises
    ------
    UsageError
        Files of different folders have that end.
    """
    if same := [row for row in rows if row.file == file]:
        return same
    ending = [row for row in rows if Path(row.file).parts[-len(Path(file).parts) :] == Path(file).parts]
    names = list(dict.fromkeys(row.file for row in ending))
    if len({Path(name).resolve() for name in names}) > 1:
        raise _ambiguous(file, names)
    return ending


def _judged(context: AppContext, file: str, line: int) -> Verdict:
    """The verdict on a record of a file that was judged in bulk, where one verdict of each template is stored."""
    source = context.history.source_of_file(file)
    if source is None or not Path(file).is_file():
        raise UnknownVerdict(f"{file}:{line}")
    options = ReadOptions.model_validate(context.source(source).reading or {})
    for row in options.read_unlabelled(file, context.settings.max_record_chars):
        if isinstance(row, ParsedRow) and row.record.line == line:
            return judge_one(context, build(context), JudgeRequest.about(row.record, source))
    raise UnknownVerdict(f"{file}:{line}")


def _ambiguous(reference: str, meant: Sequence[str]) -> UsageError:
    more = f" and {len(meant) - _LISTED} more" if len(meant) > _LISTED else ""
    return UsageError(f"{reference} may mean several: {', '.join(meant[:_LISTED])}{more}")
