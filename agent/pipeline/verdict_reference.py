"""The verdict that a person means by its id, by its template's id, or by FILE:LINE."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.core.errors import UnknownVerdict, UsageError
from agent.core.records import Record, Verdict
from agent.core.requests import JudgeRequest
from agent.core.terminal import truncate
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
# verdicts of a source that are searched for a template; ids that a message lists, and characters of their texts
_SEARCHED, _LISTED, _TEXT_CHARS = 20_000, 5, 80


def find_verdict(context: AppContext, reference: str) -> Verdict:
    """The verdict that is meant.

    Parameters
    ----------
    context
    reference
        The id of a verdict; of a template, as bulk runs write it; or the file and the line of a record, if all runs
        over files of that name found the same text there. A record of which a bulk run stored no verdict, because
        another one has its template, is judged.

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
        bodies = (body for body, *_ in context.history.find(source=name, limit=_SEARCHED))
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
    source = stored[0].body["source"] if stored else _source_of(context, file)
    present = list(_records(context, source, file, line)) if source is not None else []
    if not stored:
        if source is None or not present:
            raise UnknownVerdict(f"{file}:{line}")
        return judge_one(context, build(context), JudgeRequest.about(present[0], source))
    # a verdict has its file as it was named, from any folder: only one text makes sure which record is meant
    texts = {_comparable(row.body["record"]["text"]): row.body for row in reversed(stored)}
    meant = [f"{body['id']} ({truncate(body['record']['text'], _TEXT_CHARS)})" for body in texts.values()]
    if present and not any(_comparable(record.text) in texts for record in present):
        meant.append(f"the line as it is now ({truncate(present[0].text, _TEXT_CHARS)})")
    if len(meant) > 1:
        raise _ambiguous(f"{file}:{line}", meant)
    return Verdict.model_validate(stored[0].body)


def _comparable(text: str) -> str:
    return " ".join(text.split())


def _of_file(rows: Sequence[PlacedVerdict], file: str) -> list[PlacedVerdict]:
    """Those on records of the file: by the name that it had then, or else by the end of that name, or of this one.

    Raises
    ------
    UsageError
        Files of different folders have that end.
    """
    if same := [row for row in rows if row.file in _names(file)]:
        return same
    ending = [row for row in rows if Path(row.file).parts[-len(Path(file).parts) :] == Path(file).parts]
    names = list(dict.fromkeys(row.file for row in ending))
    if len({Path(name).resolve() for name in names}) > 1:
        raise _ambiguous(file, names)
    return ending


def _names(file: str) -> list[str]:
    """The names that a verdict may have for the file: it, and each relative one that an absolute path ends with."""
    path = Path(file)
    if not path.is_absolute():
        return [file]
    return [file, *(str(Path(*path.parts[start:])) for start in range(1, len(path.parts)))]


def _source_of(context: AppContext, file: str) -> str | None:
    """The source that judged the file last, in bulk, where one verdict of each template is stored."""
    sources = (context.history.source_of_file(name) for name in _names(file))
    return next((source for source in sources if source is not None), None)


def _records(context: AppContext, source: str, file: str, line: int) -> Iterator[Record]:
    """The records at the line of the file as it is now; none where there is no such file."""
    if not Path(file).is_file():
        return
    options = ReadOptions.model_validate(context.source(source).reading or {})
    for row in options.read_unlabelled(file, context.settings.max_record_chars):
        if isinstance(row, ParsedRow) and row.record.line is not None:
            if row.record.line > line:
                return
            if row.record.line == line:
                yield row.record


def _ambiguous(reference: str, meant: Sequence[str]) -> UsageError:
    more = f" and {len(meant) - _LISTED} more" if len(meant) > _LISTED else ""
    return UsageError(f"{reference} may mean several: {', '.join(meant[:_LISTED])}{more}")
