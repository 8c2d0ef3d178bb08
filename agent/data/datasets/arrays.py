"""Loaders of arrays: MATLAB and NumPy files. Arrays of Python objects are refused, as they are pickles."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import InputError
from agent.data.datasets.files import Member
from agent.data.datasets.rows import ANOMALOUS, NORMAL, LabelRule, LeftOut, Part, Row, RowSet
from agent.data.datasets.tables import TableFile
from agent.data.readers.csv_rows import Dialect

_HDF5 = b"\x89HDF\r\n\x1a\n"


def load_arrays(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """A table as the arrays ``X`` (rows by columns) and ``y`` (0 is normal) of a .mat or .npz file.

    Raises
    ------
    InputError
        There are several tables, or the file has no such arrays.
    """
    members = files["all"]
    if len(members) > 1:
        names = ", ".join(member.name for member in members[:10])
        raise InputError(f"holds {len(members)} tables ({names}, …): name one of them with --from")
    member = members[0]
    arrays = _read_arrays(member)
    by_name = {name.casefold(): array for name, array in arrays.items()}
    if "x" not in by_name or "y" not in by_name:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "none"
        raise InputError(f"has no arrays X and y; found: {found}", member.path)
    values, labels = by_name["x"], by_name["y"].ravel()
    if values.ndim != 2 or len(values) != len(labels):
        raise InputError(f"X {values.shape} and y {by_name['y'].shape} do not go together", member.path)
    if not (np.issubdtype(values.dtype, np.number) and np.issubdtype(labels.dtype, np.number)):
        raise InputError(f"X and y are no numbers but {values.dtype} and {labels.dtype}", member.path)

    def read() -> Iterator[Row | LeftOut]:
        for number, (cells, value) in enumerate(zip(values.tolist(), labels.tolist(), strict=True), start=1):
            label = rule.label(str(value))
            yield LeftOut("no label", f"{member.path}:{number}") if label is None else Row(label, cells)

    return RowSet(tuple(f"f{number}" for number in range(values.shape[1])), read)


def _read_arrays(member: Member) -> dict[str, NDArray[Any]]:
    data = member.read()
    if member.name.casefold().endswith(".npz"):
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (ValueError, OSError, EOFError, KeyError) as error:
            raise InputError(f"cannot be read as NumPy arrays: {error}", member.path) from error
    if data.startswith(_HDF5) or data.startswith(b"MATLAB 7.3"):
        raise InputError(
            "is a MATLAB 7.3 file, which is not read: save it with -v7, or as .npz with X and y", member.path
        )
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(cast("Any", io.BytesIO(data)), variable_names=["X", "y", "x", "Y"])
    except (MatReadError, ValueError, TypeError, LookupError, NotImplementedError, OSError, EOFError) as error:
        raise InputError(f"cannot be read as a MATLAB file: {error}", member.path) from error
    return {name: array for name, array in found.items() if isinstance(array, np.ndarray)}


def load_channels(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """Telemetry channels: ``train/NAME.npy``, ``test/NAME.npy``, and a table of the anomalous points of the test part.

    The first column of a channel is its value, the others are commands. A record is a window, normal unless one of
    its points is anomalous.

    Raises
    ------
    InputError
        A file is no such array, or the table has no channel of the spacecraft.
    """
    width, spacecraft = int(options["window"]), str(options["spacecraft"])
    anomalies = _anomalous_ranges(files["labels"][0], spacecraft)
    members: list[tuple[Member, Part]] = [(member, "train") for member in files.get("train", ())]
    members += [(member, "test") for member in files.get("test", ())]
    members = [(member, part) for member, part in members if _channel(member) in anomalies]
    if not members:
        raise InputError(f"has no channel of {spacecraft} beside train/ and test/", files["labels"][0].path)
    commands = max(_read_channel(member).shape[1] for member, _ in members[:1]) - 1
    statistics = ("mean", "std", "min", "max", "first", "last", "change")
    columns = ("id", "channel", *statistics, *(f"command{number}" for number in range(1, commands + 1)))

    def read() -> Iterator[Row | LeftOut]:
        for member, part in members:
            channel, values = _channel(member), _read_channel(member)
            if values.shape[1] != commands + 1:
                yield LeftOut(f"a channel of {values.shape[1]} columns, not {commands + 1}", member.path)
                continue
            wrong = np.zeros(len(values), dtype=bool)
            for first, last in anomalies[channel] if part == "test" else ():
                wrong[first : last + 1] = True
            for start in range(0, max(len(values) - width, 0) + 1, width):
                window = values[start : start + width]
                label = ANOMALOUS if wrong[start : start + width].any() else NORMAL
                value = window[:, 0]
                change = float(np.abs(np.diff(value)).mean()) if len(value) > 1 else 0.0
                numbers = [value.mean(), value.std(), value.min(), value.max(), value[0], value[-1], change]
                cells = [round(float(number), 6) for number in (*numbers, *window[:, 1:].mean(axis=0))]
                yield Row(label, [f"{channel} {part} {start}", channel, *cells], part)

    return RowSet(columns, read)


def _channel(member: Member) -> str:
    return member.name.rpartition(".")[0]


def _read_channel(member: Member) -> NDArray[np.float64]:
    try:
        values = np.load(io.BytesIO(member.read()), allow_pickle=False)
        numbers = np.asarray(values, dtype=np.float64)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"cannot be read as a NumPy array: {error}", member.path) from error
    numbers = numbers[:, None] if numbers.ndim == 1 else numbers
    if numbers.ndim != 2 or not numbers.size:
        raise InputError(f"expected an array of points by columns, found one of shape {values.shape}", member.path)
    return numbers


def _anomalous_ranges(labels: Member, spacecraft: str) -> dict[str, list[tuple[int, int]]]:
    """The first and last anomalous points of each channel; a channel may be in several rows."""
    table = TableFile(labels, Dialect(",", True))
    channel_at, craft_at, ranges_at = map(table.position, ("chan_id", "spacecraft", "anomaly_sequences"))
    found: dict[str, list[tuple[int, int]]] = {}
    for row in table:
        if isinstance(row, LeftOut):
            raise InputError(f"{row.place}: {row.reason}")
        if row.cells[craft_at].strip().casefold() != spacecraft.casefold():
            continue
        try:
            ranges = [(int(first), int(last)) for first, last in json.loads(row.cells[ranges_at])]
        except (ValueError, TypeError) as error:
            reason = f"anomaly_sequences is not a list of pairs: {row.cells[ranges_at]!r}"
            raise InputError(reason, labels.path, row.line) from error
        found.setdefault(row.cells[channel_at].strip(), []).extend(ranges)
    return found
