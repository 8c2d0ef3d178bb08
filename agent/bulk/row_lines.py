"""The short lines of many rows, made by array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from retrieval.text.template_hash import joined

# millionths below which Python writes a probability with an exponent; what is nearly half of one
_SMALL, _NEARLY_HALF = 100, 0.5 - 1e-6


def rounded_texts(probabilities: NDArray[np.float64]) -> pl.Series:
    """Probabilities rounded to six decimals, as Python writes them."""
    millionths = probabilities * 1e6
    whole = np.rint(millionths)
    texts = pl.Series(whole / 1e6, dtype=pl.Float64).cast(pl.String)
    # small ones are written in another way, and products are rounded themselves
    odd = np.flatnonzero(((whole > 0) & (whole < _SMALL)) | (np.abs(millionths - whole) > _NEARLY_HALF))
    if not len(odd):
        return texts
    return texts.scatter(pl.Series(odd, dtype=pl.UInt32), [str(round(p, 6)) for p in probabilities[odd].tolist()])


def json_lines(
    start: str,
    lines: NDArray[np.int64],
    labels: Sequence[str],
    probabilities: pl.Series,
    templates: Sequence[str],
    members: Sequence[str],
) -> bytes:
    """The short lines of n rows, each of which begins with ``start`` and ends with ``members``.

    A row in line 0 has none.
    """
    if not len(lines):
        return b""
    line = pl.when(pl.col("line") == 0).then(pl.lit("null")).otherwise(pl.col("line").cast(pl.String))
    columns = {"label": labels, "probability": probabilities, "template": templates, "members": members}
    form = '{}{}, "label": "{}", "probability": {}, "template": "{}"{}}}'
    frame = pl.DataFrame({"line": lines, **columns})
    rows = frame.select(pl.format(form, pl.lit(start), line, *columns)).to_series()
    return joined(rows)
