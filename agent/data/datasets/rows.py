"""What loaders give: rows with a label, and rows that are left out with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from agent.data.readers.values import DEFAULT_NORMAL, normalise_label

Part = Literal["train", "test"]
NORMAL, ANOMALOUS = "normal", "anomalous"
_NO_LABEL = frozenset({"", "nan", "null"})


@dataclass(frozen=True, slots=True)
class Row:
    """A record to write.

    Parameters
    ----------
    label
        ``normal``, ``anomalous`` or the name of the anomaly's kind; None in a set without labels.
    cells
        The values of the columns.
    part
        Where the published split has it, if there is one.
    time
        What a split by time orders by.
    group
        Rows of a group are on the same side of a random split.
    """

    label: str | None
    cells: Sequence[Any]
    part: Part | None = None
    time: float | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not written.

    Parameters
    ----------
    reason
        The same text for all rows of the kind.
    place
        The file and the line.
    expected
        Whether it is known that the set has such rows; others are errors of the file.
    """

    reason: str
    place: str
    expected: bool = False


@dataclass(frozen=True, slots=True)
class RowSet:
    """The rows of a data set; ``read`` gives them from the first, each time that it is called."""

    columns: tuple[str, ...]
    read: Callable[[], Iterator[Row | LeftOut]]


@dataclass(slots=True)
class LabelRule:
    """The labels of a set's own values.

    Parameters
    ----------
    normal
        Values that are normal.
    anomalous
        Values that are anomalous, all others are normal; None: all but ``normal`` are.
    name
        The label of an anomalous value; None: the value is.
    strip
        Characters around a value that are no part of it.
    known
        The labels of the values and kinds that were met.
    """

    normal: frozenset[str]
    anomalous: frozenset[str] | None = None
    name: str | None = None
    strip: str = " "
    known: dict[tuple[str, str], str | None] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Mapping[str, Any], anomalous: Sequence[str] = ()) -> LabelRule:
        """The rule of a layout's options; ``anomalous`` is the user's choice."""
        chosen = anomalous or options.get("anomalous", ())
        return cls(
            normal=frozenset(map(normalise_label, options.get("normal", DEFAULT_NORMAL))),
            anomalous=frozenset(map(normalise_label, chosen)) if chosen else None,
            name=options.get("name"),
            strip=" " + options.get("strip", ""),
        )

    @property
    def seen(self) -> set[str]:
        """The values that were met, but missing ones."""
        return {value.strip().strip(self.strip) for (value, _), label in self.known.items() if label is not None}

    def label(self, value: str, kind: str = "") -> str | None:
        """The label of a value, named by the ``kind`` if there is one; None for a missing value."""
        if (value, kind) not in self.known:
            self.known[value, kind] = self._label(value.strip().strip(self.strip), kind.strip())
        return self.known[value, kind]

    def _label(self, value: str, kind: str) -> str | None:
        if value.casefold() in _NO_LABEL:
            return None
        plain = normalise_label(value)
        if plain in self.normal if self.anomalous is None else plain not in self.anomalous:
            return NORMAL
        name = self.name or kind or value
        # `learn` takes such a value for normal
        return f"class {name}" if normalise_label(name) in DEFAULT_NORMAL else name


def to_moment(cell: str) -> float | None:
    """A time as a number to order by: a number itself, or seconds of an ISO date; None if it is neither."""
    try:
        return float(cell)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
