"""`precedent datasets`: public data sets by name, as files that `learn` and `evaluate` read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.cli.options import print_status

if TYPE_CHECKING:
    from agent.data.datasets.catalog import DatasetEntry
    from agent.data.datasets.prepare import Prepared

datasets_app = typer.Typer(
    help="List public data sets; turn one into files for learn and evaluate.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
JsonOption = Annotated[bool, typer.Option("--json", help="JSON.")]
# label values shown of each file
_LABELS_SHOWN = 6


@datasets_app.command("list")
def list_datasets(
    name: Annotated[str | None, typer.Argument(help="Show all that is known of this one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the data sets: what each is, its size, label, licence, and how it is to be had."""
    from agent.core.terminal import print_line
    from agent.data.datasets.catalog import ACCESS, catalog, find_dataset

    entries = list(catalog().values()) if name is None else [find_dataset(name)]
    if as_json:
        print(json.dumps([_to_json(entry) for entry in entries], ensure_ascii=False, indent=1))
        return
    if name is not None:
        _show(entries[0])
        return
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        print_line(f"{entry.name:<{width}}  {entry.about}")
        print_line(f"{'':<{width}}  {entry.size}; {ACCESS[entry.access]}; licence: {entry.licence}", "dim")
    print_status("`precedent datasets list NAME` shows one; `precedent datasets get NAME --from FILE` reads it")


def _to_json(entry: DatasetEntry) -> dict[str, object]:
    names = ("name", "title", "about", "source", "licence", "access", "size", "label", "split", "get")
    return {
        **{name: getattr(entry, name) for name in names},
        "layouts": [layout.about for layout in entry.layouts],
        "downloads": [{"name": file.name, "url": file.url} for file in entry.downloads],
        "sha256": {file.name: file.sha256 for file in entry.digests},
    }


def _show(entry: DatasetEntry) -> None:
    from agent.core.terminal import print_line
    from agent.data.datasets.catalog import ACCESS, NOT_RECORDED

    print_line(f"{entry.name}: {entry.title}", "bold")
    shown = {"what": entry.about, "source": entry.source, "licence": entry.licence, "access": ACCESS[entry.access]}
    shown |= {"size": entry.size, "label": entry.label, "split": entry.split, "how": entry.get}
    for number, layout in enumerate(entry.layouts, start=1):
        shown[f"layout {number}" if len(entry.layouts) > 1 else "layout"] = layout.about
    for file in entry.downloads:
        shown[f"download {file.name}"] = file.url
    for digest in entry.digests:
        shown[f"SHA-256 of {digest.name}"] = f"{digest.sha256} ({digest.origin})"
    if not entry.digests:
        shown["SHA-256"] = NOT_RECORDED
    for name, value in shown.items():
        print_line(f"{name}: {value}")


@datasets_app.command("get")
def get_dataset(
    name: Annotated[str, typer.Argument(help="The data set, see `precedent datasets list`.")],
    from_path: Annotated[
        Path | None, typer.Option("--from", help="The file, archive or folder that it is in. [what was downloaded]")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to write to. [one with the set's name]")] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch it from the network, where that needs no account.")
    ] = False,
    split: Annotated[
        Literal["published", "time", "random"] | None,
        typer.Option("--split", help="How records are divided. [as the set's entry says]"),
    ] = None,
    test_share: Annotated[
        float, typer.Option("--test-share", min=0.01, max=0.99, help="Share for testing, unless published.")
    ] = 0.3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of what is random.")] = 0,
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="Most rows of each file, drawn at random. [all]")
    ] = None,
    anomalous: Annotated[
        list[str] | None,
        typer.Option("--anomalous", help="Label value that is anomalous, all others are normal; repeat it."),
    ] = None,
    window: Annotated[int | None, typer.Option("--window", min=2, help="Points of a window, for series.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a data set as train and test files with a column `label`, and print the commands that use them."""
    from agent.core import terminal
    from agent.data.datasets.catalog import find_dataset
    from agent.data.datasets.prepare import PrepareOptions, prepare, to_json

    entry = find_dataset(name)
    path = _path_of(entry, from_path, download)
    options = PrepareOptions(
        to or Path(entry.name), split, test_share, seed, rows, tuple(anomalous or ()), window, overwrite
    )
    with terminal.progress() as progress:
        prepared = prepare(entry, path, options, progress)
    if as_json:
        print(json.dumps(to_json(prepared), ensure_ascii=False, indent=1))
    else:
        _report(prepared)
    if any(not item.expected for item in prepared.left_out):
        raise typer.Exit(1)


def _path_of(entry: DatasetEntry, from_path: Path | None, download: bool) -> Path | None:
    """Where the data set is; None where it is generated.

    Raises
    ------
    UsageError
        Both a path and a download are wanted.
    MissingPart
        It is neither given nor downloaded.
    """
    from agent.core.errors import MissingPart, UsageError
    from agent.core.settings import settings
    from agent.data.datasets.catalog import ACCESS
    from agent.data.datasets.download import cached_folder, fetch_dataset

    if from_path is not None:
        if download:
            raise UsageError("--from reads what is here, --download fetches it: use one of them")
        return from_path.expanduser()
    if download:
        return fetch_dataset(entry, settings().cache, offline=settings().offline)
    if entry.access == "generated":
        return None
    if (folder := cached_folder(entry, settings().cache)) is not None:
        return folder
    command = f"`precedent datasets get {entry.name}"
    fetched = f"{command} --download` fetches it from {entry.downloads[0].url}; or " if entry.downloads else ""
    raise MissingPart(
        f"{entry.name} is not on this machine; it is to be had {ACCESS[entry.access]} from {entry.source} "
        f"(licence: {entry.licence})",
        f"{fetched}{entry.get} Then {command} --from FILE`",
    )


def _report(prepared: Prepared) -> None:
    from agent.core.terminal import plural, print_line

    entry = prepared.entry
    print_line(f"{entry.title}: {entry.source}; licence: {entry.licence}")
    print_line(f"read: {prepared.layout}")
    for item in prepared.inputs:
        print_line(f"  {item.file}: SHA-256 {item.sha256}, {item.recorded}")
    print_line(f"split: {prepared.split}")
    for file in prepared.files:
        counts = list(file.labels.items())
        listed = ", ".join(f"{label} {count:,}" for label, count in counts[:_LABELS_SHOWN] if label)
        more = f" and {plural(len(counts) - _LABELS_SHOWN, 'other label')}" if len(counts) > _LABELS_SHOWN else ""
        share = f", {file.anomalous:,} anomalous ({file.anomalous / file.rows:.1%}): {listed}{more}" if listed else ""
        print_line(f"{file.path}: {plural(file.rows, 'record')}{share}")
    for left_out in prepared.left_out:
        print_status(f"{plural(left_out.count, 'row')} left out: {left_out.reason} (first: {left_out.first})")
    for note in prepared.notes:
        print_status(f"note: {note}")
    print_line("next:")
    for command in prepared.commands:
        print_line(f"  {command}")
