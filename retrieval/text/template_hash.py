"""What masking cannot tell apart, found for many lines at once: digits give way to one digit, addresses to one.

`mask` asks of a digit only that it is one, but for the 0 of ``0x``. So lines with the same skeleton have
the same masked text, and whatever else is read off a line by such patterns, is read off one line of each skeleton.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

# the 0 of 0x is set aside as NUL, which no line may have
_ONE_DIGIT = bytes.maketrans(b"0123456789\x00", b"11111111110")
# that no number can begin in front of
_ADDRESS = r"(^|[ \t(=\[])0[xX][0-9a-fA-F]+\b"
_ADDRESS_OF_ONE = re.compile(_ADDRESS)


def template_skeletons(lines: bytes) -> pl.Series:
    """One for each line (UTF-8, without NUL): every digit the same, the 0 of ``0x`` aside, each address the same.

    >>> skeletons(b"core.2275 at 0x7f3a").to_list()
    ['core.1111 at 0x1']
    """
    import polars as pl

    own = pl.read_lines(io.BytesIO(_one_digit(lines).data)).to_series()
    addressed = own.str.contains("0x", literal=True) | own.str.contains("0X", literal=True)
    places = addressed.arg_true()
    return own.scatter(places, _one_address(own.gather(places))) if len(places) else own


def _one_digit(lines: bytes) -> NDArray[np.uint8]:
    """As long as they were. In numpy, so that other threads are not kept waiting."""
    raw = np.frombuffer(lines, np.uint8)
    # below "0" it wraps around
    out = np.where(raw - np.uint8(ord("0")) < 10, np.uint8(ord("1")), raw)
    before_x = np.flatnonzero((raw[1:] | np.uint8(ord(" "))) == ord("x"))
    out[before_x[raw[before_x] == ord("0")]] = ord("0")
    return out


def template_skeleton(text: str) -> str:
    """The skeleton of one text, which has no NUL."""
    own = text.encode().replace(b"0x", b"\x00x").replace(b"0X", b"\x00X").translate(_ONE_DIGIT).decode()
    if "0x" in own and "@" not in own and own.isascii():
        return _ADDRESS_OF_ONE.sub(r"\g<1>0x1", own)
    return own


def _one_address(lines: pl.Series) -> pl.Series:
    """Each hexadecimal address the same.

    Not where it may be part of an e-mail's name, nor where Python and polars may differ over what a word is.
    """
    import polars as pl

    line = pl.col("line")
    plain = line.str.replace_all(_ADDRESS, "${1}0x1")
    odd = line.str.contains("@", literal=True) | (line.str.len_bytes() != line.str.len_chars())
    chosen = pl.when(odd).then(line).otherwise(plain)
    return pl.DataFrame({"line": lines}).select(chosen).to_series()
