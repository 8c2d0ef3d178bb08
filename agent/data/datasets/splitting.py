"""Which records are for learning and which for testing."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import UsageError
from agent.data.datasets.catalog import Layout, SplitName
from agent.data.datasets.rows import LeftOut, Row

UNUSED, TRAIN, TEST = 0, 1, 2
_PARTS = {None: UNUSED, "train": TRAIN, "test": TEST}


@dataclass(slots=True)
class RowSurvey:
    """What a split needs of each row, in little memory; ``left_out`` counts the rows that are not written."""

    labels: dict[str | None, int] = field(default_factory=dict)
    codes: array[int] = field(default_factory=lambda: array("i"))
    parts: array[int] = field(default_factory=lambda: array("b"))
    times: array[float] = field(default_factory=lambda: array("d"))
    groups: dict[str | None, int] = field(default_factory=dict)
    group_codes: array[int] = field(default_factory=lambda: array("i"))
    left_out: dict[tuple[str, bool], tuple[int, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Row | LeftOut]) -> RowSurvey:
        """Read all rows once."""
        survey = cls()
        for row in rows:
            if isinstance(row, LeftOut):
                count, first = survey.left_out.get((row.reason, row.expected), (0, row.place))
                survey.left_out[row.reason, row.expected] = count + 1, first
                continue
            survey.codes.append(survey.labels.setdefault(row.label, len(survey.labels)))
            survey.parts.append(_PARTS[row.part])
            survey.times.append(np.nan if row.time is None else row.time)
            if row.group is not None:
                survey.group_codes.append(survey.groups.setdefault(row.group, len(survey.groups)))
        return survey


@dataclass(frozen=True)
class Split:
    """For each row its part, and in words how it was divided."""

    parts: NDArray[np.int8]
    about: str


def split_rows(survey: RowSurvey, layout: Layout, chosen: SplitName | None, test_share: float, seed: int) -> Split:
    """Divide the rows by the layout's split, or the ``chosen`` one.

    Parameters
    ----------
    survey
        What is known of the rows.
    layout
        The layout that they were read from.
    chosen
        The user's choice.
    test_share
        The share of the rows that is for testing, where the split is not published.
    seed
        The seed of a random split.

    Raises
    ------
    UsageError
        The rows have no published split or no time, and that was chosen.
    """
    published = np.asarray(survey.parts, dtype=np.int8)
    if chosen is None and layout.split != "files":
        return _divide(survey, layout.split, test_share, seed)
    sides = {int(part) for part in np.unique(published)}
    if chosen in (None, layout.files_split) and sides == {TRAIN, TEST}:
        return Split(published, layout.files_split_about)
    if chosen == "published":
        raise UsageError("the files at hand do not hold both sides of a published split; leave --split out")
    if chosen is not None:
        return _divide(survey, chosen, test_share, seed)
    if sides == {TEST} or sides == {TRAIN}:
        side, other = ("training", "test") if sides == {TRAIN} else ("test", "training")
        reason = f"only the {side} part is here, without the {other} part, so it is divided"
    else:
        reason = "the files at hand do not show a split"
    rest = _divide(survey, layout.otherwise, test_share, seed)
    return Split(rest.parts, f"{reason}: {rest.about}")


def _divide(survey: RowSurvey, name: Literal["time", "random"], test_share: float, seed: int) -> Split:
    if name == "time":
        return _by_time(survey, test_share)
    share = f"{test_share:.0%} of the records of each label for testing"
    random = np.random.default_rng(seed)
    if survey.groups:
        return Split(
            _by_group(survey, test_share, random), f"random with seed {seed}, no group of records on both sides"
        )
    codes = np.asarray(survey.codes)
    parts = np.full(len(codes), TRAIN, dtype=np.int8)
    for code in range(len(survey.labels)):
        rows = random.permutation(np.flatnonzero(codes == code))
        tested = round(test_share * len(rows))
        # a kind that has two records is on both sides
        tested = min(max(tested, 1), len(rows) - 1) if len(rows) > 1 else 0
        parts[rows[:tested]] = TEST
    return Split(parts, f"random with seed {seed}, {share}")


def _by_time(survey: RowSurvey, test_share: float) -> Split:
    times = np.asarray(survey.times)
    if not len(times) or np.isnan(times).any():
        raise UsageError("the records have no time to divide them by; use --split random")
    # logs are in order, and too long for a copy
    ordered = times if (times[1:] >= times[:-1]).all() else np.sort(times)
    second = np.searchsorted(ordered, ordered[0], side="right")
    if second == len(ordered):
        raise UsageError("all records have the same time: use --split random")
    cut = ordered[int(len(times) * (1 - test_share))]
    # the moment of the cut goes to one side as a whole; neither side is empty
    before = times < max(cut, ordered[second])
    share = 1 - before.mean()
    return Split(np.where(before, np.int8(TRAIN), np.int8(TEST)), f"by time, the last {share:.0%} for testing")


def _by_group(survey: RowSurvey, test_share: float, random: np.random.Generator) -> NDArray[np.int8]:
    codes = np.asarray(survey.group_codes)
    order = random.permutation(len(survey.groups))
    sizes = np.bincount(codes, minlength=len(order))[order]
    tested = order[np.cumsum(sizes) <= max(test_share * len(codes), sizes[0] if len(order) > 1 else 0)]
    return np.where(np.isin(codes, tested), np.int8(TEST), np.int8(TRAIN))


def sample(parts: NDArray[np.int8], most: int, seed: int) -> NDArray[np.int8]:
    """Keep at most that many rows of each part, drawn at random."""
    kept = parts.copy()
    random = np.random.default_rng(seed)
    for part in (TRAIN, TEST):
        rows = np.flatnonzero(parts == part)
        if len(rows) > most:
            kept[random.permutation(rows)[most:]] = UNUSED
    return kept
