"""Series of the tests' own making: days with a season, and what may be wrong in them."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

START = datetime(2024, 1, 1)
# points of a day, one every half hour
DAY = 48


def daily(points: int, seed: int = 1) -> list[float]:
    """A season of a day with noise."""
    rng = random.Random(seed)
    return [100 + 40 * math.sin(2 * math.pi * i / DAY) + rng.gauss(0, 2) for i in range(points)]


def write_series(
    path: Path, values: Iterable[object], labels: Iterable[object] | None = None, first: datetime = START
) -> Path:
    """A CSV of half hours."""
    values = list(values)
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["timestamp", "value", *([] if labels is None else ["label"])])
        marks = [[]] * len(values) if labels is None else [[label] for label in labels]
        for i, (value, mark) in enumerate(zip(values, marks, strict=True)):
            out.writerow([(first + timedelta(minutes=30 * i)).isoformat(sep=" "), value, *mark])
    return path
