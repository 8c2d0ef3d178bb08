"""Skeletons of lines: every digit replaced by one digit, every hexadecimal address by one address.

`mask` does not distinguish digits, but for the 0 of ``0x``. So lines with the same skeleton have the same masked text,
and only one line of each skeleton needs to be masked.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import numpy as np

from retrieval.text.kept_numbers import KeptNumbers, number_columns

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

# NUL, which no line contains, stands for the 0 of 0x
_ONE_DIGIT = bytes.maketrans(b"0123456789\x00", b"11111111110")
# an address that no number precedes
_ADDRESS = r"(^|[ \t(=\[])0[xX][0-9a-fA-F]+\b"
_ADDRESS_OF_ONE = re.compile(_ADDRESS)


def template_skeletons(lines: bytes) -> pl.Series:
    """The skeleton of each of the ``lines`` (UTF-8, without NUL).

    >>> template_skeletons(b"core.2275 at 0x7f3a").to_list()
    ['core.1111 at 0x1']
    """
    import polars as pl

    skeletons = pl.read_lines(io.BytesIO(_one_digit(lines).data)).to_series()
    with_address = skeletons.str.contains("0x", literal=True) | skeletons.str.contains("0X", literal=True)
    places = with_address.arg_true()
    return skeletons.scatter(places, _one_address(skeletons.gather(places))) if len(places) else skeletons


def joined(lines: pl.Series) -> bytes:
    """The lines, of which there is at least one, as bytes."""
    import polars as pl

    # two copies less than by a Python string
    data: bytes = lines.str.join("\n").cast(pl.Binary).item()
    return data + b"\n"


def skeleton_hashes(lines: bytes, seed: int) -> NDArray[np.uint64]:
    """Seeded hashes of the skeletons of n lines (UTF-8, without NUL), shape (n,)."""
    return template_skeletons(lines).hash(seed).to_numpy()


def column_hashes(lines: pl.Series, kept: KeptNumbers, seed: int) -> NDArray[np.uint64]:
    """What is added to the hashes of n lines, shape (n,), for the numbers that masking leaves in texts.

    Lines with the same skeleton and the same hash here have the same masked text.
    """
    hashes = np.zeros(len(lines), np.uint64)
    for factor, column in enumerate(number_columns(lines, kept), start=1):
        # odd factors lose nothing, and keep the places apart
        hashes = hashes * np.uint64(2 * factor + 1) + column.fill_null("").hash(seed).to_numpy()
    return hashes


def _one_digit(lines: bytes) -> NDArray[np.uint8]:
    """Every digit replaced, in numpy, which releases the interpreter lock."""
    raw = np.frombuffer(lines, np.uint8)
    # bytes below "0" wrap around
    out = np.where(raw - np.uint8(ord("0")) < 10, np.uint8(ord("1")), raw)
    before_x = np.flatnonzero((raw[1:] | np.uint8(ord(" "))) == ord("x"))
    out[before_x[raw[before_x] == ord("0")]] = ord("0")
    return out


def template_skeleton(text: str) -> str:
    """The skeleton of one text without NUL."""
    skeleton = text.encode().replace(b"0x", b"\x00x").replace(b"0X", b"\x00X").translate(_ONE_DIGIT).decode()
    if "0x" in skeleton and "@" not in skeleton and skeleton.isascii():
        return _ADDRESS_OF_ONE.sub(r"\g<1>0x1", skeleton)
    return skeleton


def _one_address(lines: pl.Series) -> pl.Series:
    """Every hexadecimal address replaced.

    Lines with an ``@`` are left alone, where it may be part of an e-mail address, and lines that are not ASCII, where
    Python and polars differ over word boundaries.
    """
    import polars as pl

    line = pl.col("line")
    replaced = line.str.replace_all(_ADDRESS, "${1}0x1")
    excluded = line.str.contains("@", literal=True) | (line.str.len_bytes() != line.str.len_chars())
    chosen = pl.when(excluded).then(line).otherwise(replaced)
    return pl.DataFrame({"line": lines}).select(chosen).to_series()
