"""`precedent bench systems`: every system on the same split, as one Markdown table a data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from agent.core.errors import EXPECTED, PrecedentError, UsageError, translate
from agent.core.settings import settings
from agent.detectors.contrib import catalog
from agent.detectors.contrib.series_names import is_of_series
from agent.pipeline.context import AppContext
from benchmarks.progress import Progress, print_status, progress_lines
from benchmarks.quality.baselines import encoding_once
from benchmarks.quality.tasks import TASKS
from benchmarks.systems import nab
from benchmarks.systems.measuring import (
    SUPERVISED,
    TUNED,
    Row,
    best_detectors,
    measure_detector,
    measure_precedent,
    measure_supervised,
    measure_tuned,
)
from benchmarks.systems.results import Section, machine, read, write
from benchmarks.systems.split import Files, Split, add_file_options, make_split, own_files, temporary_folder
from benchmarks.systems.table import page

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "systems.md"
_DATA = ("genome", "nslkdd", "hdfs100k", "sms-100", "bgl-time", nab.NAME)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        text = run(options)
    except EXPECTED as error:
        expected = translate(error)
        assert expected is not None
        print_status(f"error: {expected}")
        sys.exit(expected.exit_code)
    if options.write:
        _PAGE.write_text(text, encoding="utf-8")
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    print(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="precedent bench systems", description="The field's systems on one split.")
    add_file_options(parser, "LEARN", "JUDGE", _DATA)
    parser.add_argument(
        "--systems", metavar="NAME,NAME", help="detectors by name, forest, regression, precedent [all that apply]"
    )
    parser.add_argument(
        "--limit", type=int, default=1_000, metavar="N", help="most records of a side, 0 for all [%(default)s]"
    )
    parser.add_argument("--draws", type=int, default=1, metavar="N", help="draws of each data set [%(default)s]")
    parser.add_argument(
        "--fuse", type=int, default=1, metavar="N", help="detectors, the best ones, that are fused [%(default)s]"
    )
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="of the tuned classifier [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, after each system")
    parser.add_argument(
        "--from", dest="stored", nargs="+", type=Path, metavar="FILE", help="the page of such figures; nothing is run"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the page there as well")
    parser.add_argument("--write", action="store_true", help="write docs/systems.md as well")
    return parser


def run(options: argparse.Namespace) -> str:
    """The whole page.

    Raises
    ------
    UsageError
        A data set or a system is not known, a label column is missing, or no data set is here.
    """
    if options.stored is not None:
        return page(read(options.stored))
    wanted = None if options.systems is None else [name.strip() for name in options.systems.split(",")]
    systems, sections = _systems(wanted), list[Section]()
    with temporary_folder() as folder:
        for files in _files(options, Path(folder)):
            home = Path(folder) / f"home-{files.name}-{files.draw}"
            chosen = {"home": home, "model": "none", "store": None, "chroma": None}
            context = AppContext(settings().model_copy(update=chosen))
            progress = progress_lines(files.name)
            split = make_split(context, files, options.limit, progress)
            sections.append(_section(files, split, 0 if options.file else options.limit))
            for row in _measured(context, split, systems, options, progress):
                sections[-1] = replace(sections[-1], rows=(*sections[-1].rows, row))
                if options.json is not None:
                    write(options.json, sections)
            context.close()
    if nab.NAME in (options.data or (() if options.file else _DATA)):
        try:
            sections.append(nab.measure_nab(wanted))
        except UsageError as error:
            print_status(f"{nab.NAME}: left out, {error}")
        if options.json is not None:
            write(options.json, sections)
    if not sections:
        raise UsageError("none of the data sets is on this machine; --file LEARN JUDGE --label COLUMN takes your own")
    return page(sections)


def _section(files: Files, split: Split, limit: int) -> Section:
    learned, judged, anomalous = len(split.learned), len(split.judged), int(split.truth.sum())
    return Section(files.name, files.protocol, learned, judged, anomalous, limit, files.draw, machine())


def _systems(wanted: Sequence[str] | None) -> list[str]:
    every = [*catalog.CATALOG, "iforest_text", *SUPERVISED, "precedent"]
    if wanted is None:
        return [name for name in every if name != "nli" and not is_of_series(name)]
    groups = {"forest": [name for name in SUPERVISED if "forest" in name]}
    groups |= {"regression": [name for name in SUPERVISED if "regression" in name]}
    names = [name for system in wanted for name in groups.get(system, [system])]
    for name in names:
        if name not in every:
            catalog.entry(catalog.split_option(name)[0])
    return names


def _files(options: argparse.Namespace, folder: Path) -> list[Files]:
    if options.file is not None:
        return [own_files(options)]
    found = []
    for name in options.data or _DATA:
        if name == nab.NAME:
            continue
        if name not in TASKS:
            raise UsageError(f"no data set {name!r}: {', '.join([*TASKS, nab.NAME])}")
        if missing := TASKS[name].missing:
            print_status(f"{name}: left out, {missing[0]} is not here")
            continue
        found += [Files.of_task(TASKS[name], options.limit, draw, folder) for draw in range(options.draws)]
    return found


def _measured(
    context: AppContext, split: Split, systems: Sequence[str], options: argparse.Namespace, progress: Progress
) -> Iterator[Row]:
    rows, encode = list[Row](), encoding_once(context.embedder().encode)
    if "precedent" in systems:
        yield measure_precedent(context, split, None, progress)
    for name in [name for name in systems if name in SUPERVISED]:
        progress(name, 0, 1)
        yield measure_supervised(name, split, encode)
    for name in [name for name in systems if name not in SUPERVISED and name != "precedent"]:
        progress(name, 0, 1)
        try:
            row = (
                measure_tuned(context, split, options.epochs, progress, print_status)
                if name == TUNED
                else measure_detector(context, split, name)
            )
        except PrecedentError as error:
            row = Row(name, "", note=str(error))
        rows.append(row)
        yield row
    if "precedent" in systems:
        for name in best_detectors(rows, options.fuse):
            yield measure_precedent(context, split, name, progress)


if __name__ == "__main__":
    main()
