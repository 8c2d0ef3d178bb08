"""A data set to the files that `precedent learn` and `precedent evaluate` read."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.core.errors import InputError, UsageError
from agent.core.writing import writing
from agent.data.datasets.catalog import NOT_RECORDED, DatasetEntry, Layout, SplitName
from agent.data.datasets.files import DatasetFiles, Member
from agent.data.datasets.loaders import BY_VALUE, LOADERS, WINDOWED
from agent.data.datasets.rows import LabelRule, RowSet
from agent.data.datasets.series import generate_charts
from agent.data.datasets.splitting import TEST, TRAIN, RowSurvey, Split, sample, split_rows
from agent.data.datasets.writing import LABEL, WrittenFile, counted, write_files
from agent.data.readers.values import normalise_label
from llm.weights.checksum import sha256_of

CHARTS_EACH = 100
_EACH_DIGEST = 12


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """What a user chooses.

    Parameters
    ----------
    to
        The folder to write to.
    split, test_share, seed
        See `agent.data.datasets.splitting.split_rows`.
    rows
        The most rows of each file; None for all.
    anomalous
        Label values that are anomalous, in place of the catalog's.
    window
        The points of a window, in place of the catalog's.
    overwrite
        Whether files that are there are replaced.
    """

    to: Path
    split: SplitName | None = None
    test_share: float = 0.3
    seed: int = 0
    rows: int | None = None
    anomalous: tuple[str, ...] = ()
    window: int | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Digest:
    """The SHA-256 of an input, and whether it is the recorded one."""

    file: str
    sha256: str
    recorded: str


@dataclass(frozen=True, slots=True)
class LeftOutRows:
    """Rows that were not written, for one reason."""

    count: int
    reason: str
    first: str
    expected: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` has done."""

    entry: DatasetEntry
    layout: str
    split: str
    inputs: tuple[Digest, ...]
    files: tuple[WrittenFile, ...]
    left_out: tuple[LeftOutRows, ...]
    notes: tuple[str, ...]
    commands: tuple[str, ...]


def prepare(
    entry: DatasetEntry,
    path: Path | None,
    options: PrepareOptions,
    progress: Callable[..., None] = lambda *_: None,
) -> Prepared:
    """Write the records of a data set as ``train`` and ``test`` files, with a column ``label``.

    Parameters
    ----------
    entry
        The data set.
    path
        The file or folder that it is in; None: it is generated.
    options
        What the user chose.
    progress
        Gets the name of the step, the rows done, and their number (0 if unknown).

    Raises
    ------
    InputError
        The files do not have a known layout.
    UsageError
        An option does not go with the set, or a file to write is there.
    """
    if path is None:
        layout = entry.layouts[0]
        _check_options(entry, layout, options)
        rows = generate_charts(CHARTS_EACH, options.seed)
        return _write(
            entry, replace(layout, about=f"generated with seed {options.seed}"), rows, [], None, options, progress
        )
    with DatasetFiles(path) as files:
        layout, found = files.find(entry)
        _check_options(entry, layout, options)
        merged = {**layout.options, **({"window": options.window} if options.window else {})}
        rule = LabelRule.of(merged, options.anomalous)
        members = [member for role in found.values() for member in role]
        rows = LOADERS[layout.loader](found, merged, rule)
        return _write(entry, layout, rows, members, rule, options, progress)


def _check_options(entry: DatasetEntry, layout: Layout, options: PrepareOptions) -> None:
    if options.window is not None and layout.loader not in WINDOWED:
        raise UsageError(f"--window is for series: the records of {entry.name} in this layout are no windows")
    has_values = entry.labelled and layout.loader in BY_VALUE
    if options.anomalous and not has_values:
        raise UsageError(f"--anomalous is for sets with label values: {entry.name} in this layout has none")


def _write(
    entry: DatasetEntry,
    layout: Layout,
    rows: RowSet,
    members: Sequence[Member],
    rule: LabelRule | None,
    options: PrepareOptions,
    progress: Callable[..., None],
) -> Prepared:
    names = [f"{part}.{layout.output}" for part in (("train", "test") if entry.labelled else ("records",))]
    _check_targets(options, names, members)
    survey = RowSurvey.of(counted(rows.read(), progress, "read"))
    if not survey.codes:
        reasons = "; ".join(reason for reason, _ in survey.left_out) or "the files are empty"
        raise InputError(f"no record of {entry.name} could be read: {reasons}", members[0].path if members else None)
    if rule is not None:
        _check_anomalous(options, rule.seen)
    progress("split", len(survey.codes), len(survey.codes))
    if entry.labelled:
        split = split_rows(survey, layout, options.split, options.test_share, options.seed)
    else:
        split = Split(np.full(len(survey.codes), TRAIN, dtype=np.int8), "none: the set has no labels")
    parts = split.parts if options.rows is None else sample(split.parts, options.rows, options.seed)
    used = [(number, name) for number, name in zip((TRAIN, TEST), names, strict=False) if (parts == number).any()]
    with writing(options.to):
        options.to.mkdir(parents=True, exist_ok=True)
        written = write_files(rows, parts, used, options.to, layout, progress)
    about = split.about + (
        "" if options.rows is None else f"; at most {options.rows:,} of each file, seed {options.seed}"
    )
    result = Prepared(
        entry,
        layout.about,
        about,
        tuple(_digests(entry, members)),
        tuple(written),
        tuple(
            LeftOutRows(count, reason, first, expected)
            for (reason, expected), (count, first) in survey.left_out.items()
        ),
        tuple(_notes(written)) if entry.labelled else (),
        tuple(_commands(entry, written)),
    )
    document = json.dumps(to_json(result), ensure_ascii=False, indent=1) + "\n"
    with writing(options.to):
        (options.to / "dataset.json").write_text(document, encoding="utf-8")
    return result


def _check_targets(options: PrepareOptions, names: Sequence[str], members: Sequence[Member]) -> None:
    if options.to.exists() and not options.to.is_dir():
        raise UsageError(f"{options.to} is no folder: name another one with --to")
    roots = {member.root for member in members}
    for name in (*names, "dataset.json"):
        target = options.to / name
        if not target.exists():
            continue
        if any(target.samefile(root) for root in roots):
            raise UsageError(f"{target} is one of the files to read: write to another folder with --to")
        if not options.overwrite:
            raise UsageError(f"{target} is there already: --overwrite replaces it, --to names another folder")


def _check_anomalous(options: PrepareOptions, seen: Iterable[str]) -> None:
    known = {normalise_label(value): value for value in seen}
    missing = [value for value in options.anomalous if normalise_label(value) not in known]
    if missing:
        listed = ", ".join(sorted(known.values())[:40])
        raise UsageError(f"no record has the label {missing[0]!r}; the labels are {listed}")


def _digests(entry: DatasetEntry, members: Sequence[Member]) -> Iterator[Digest]:
    roots = list(dict.fromkeys(member.root for member in members))
    above = Path(os.path.commonpath([root.parent for root in roots])) if roots else Path()
    sums = [(root, sha256_of(root)) for root in roots]
    if len(sums) > _EACH_DIGEST:
        listing = "".join(f"{digest}  {root.relative_to(above).as_posix()}\n" for root, digest in sums)
        combined = hashlib.sha256(listing.encode()).hexdigest()
        yield Digest(f"the list of {len(sums):,} files (lines of SHA-256, two spaces, path)", combined, NOT_RECORDED)
        return
    for root, digest in sums:
        known = entry.sha256_of(root.name)
        same = next((f"as recorded ({file.origin})" for file in known if file.sha256 == digest), None)
        differs = f"differs from the recorded {known[0].sha256} ({known[0].origin})" if known else NOT_RECORDED
        yield Digest(root.relative_to(above).as_posix(), digest, same or differs)


def _notes(files: Sequence[WrittenFile]) -> Iterator[str]:
    for file in files:
        if not file.anomalous:
            yield f"{file.path.name} has no anomalous records"
        elif file.anomalous == file.rows:
            yield f"{file.path.name} has no normal records"
    if len(files) == 1:
        yield f"there is only {files[0].path.name}"


def _commands(entry: DatasetEntry, files: Sequence[WrittenFile]) -> Iterator[str]:
    for file in files:
        path = shlex.quote(str(file.path))
        if not entry.labelled:
            yield f"precedent judge {path}"
        elif file.path.stem == "train":
            yield f"precedent learn {path} --source {entry.name} --label {LABEL}"
        else:
            yield f"precedent evaluate {path} --source {entry.name} --label {LABEL}"


def to_json(prepared: Prepared) -> dict[str, Any]:
    """The result as JSON: where the records are from, how they were divided, what was written."""
    entry = prepared.entry
    return {
        "name": entry.name,
        "source": entry.source,
        "licence": entry.licence,
        "layout": prepared.layout,
        "split": prepared.split,
        "inputs": [{"file": item.file, "sha256": item.sha256, "recorded": item.recorded} for item in prepared.inputs],
        "files": [{"path": str(file.path), "rows": file.rows, "labels": dict(file.labels)} for file in prepared.files],
        "left_out": [
            {"rows": item.count, "reason": item.reason, "first": item.first, "expected": item.expected}
            for item in prepared.left_out
        ],
        "notes": list(prepared.notes),
        "commands": list(prepared.commands),
    }
