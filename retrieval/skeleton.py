"""What masking cannot tell apart, found for many lines at once: digits give way to one digit, addresses to one.

`retrieval.masking` asks of a digit only that it is one, but for the 0 of ``0x``. So lines with the same skeleton have
the same masked text, and whatever else is read off a line by such patterns, is read off one line of each skeleton.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# the 0 of 0x is set aside as NUL, which no line may have
_ONE_DIGIT = bytes.maketrans(b"0123456789\x00", b"11111111110")
# that no number can begin in front of
_ADDRESS = r"(^|[ \t(=\[])0[xX][0-9a-fA-F]+\b"
_ADDRESS_OF_ONE = re.compile(_ADDRESS)


def skeleton(lines: bytes) -> bytes:
    """Lines (UTF-8, without NUL) with every digit the same, the 0 of ``0x`` aside; as long as they were.

    >>> skeleton(b"core.2275 at 0x7f3a")
    b'core.1111 at 0x1f1a'
    """
    return lines.replace(b"0x", b"\x00x").replace(b"0X", b"\x00X").translate(_ONE_DIGIT)


def bones(text: str) -> str:
    """What `shortest` makes of the skeleton of one text, which has no NUL."""
    own = skeleton(text.encode()).decode()
    if "0x" in own and "@" not in own and own.isascii():
        return _ADDRESS_OF_ONE.sub(r"\g<1>0x1", own)
    return own


def shortest(skeletons: pl.Series) -> pl.Series:
    """Skeletons with each hexadecimal address the same.

    Not where it may be part of an e-mail's name, nor where Python and polars may differ over what a word is.
    """
    import polars as pl

    lines = pl.col("line")
    plain = lines.str.replace_all(_ADDRESS, "${1}0x1")
    odd = lines.str.contains("@", literal=True) | (lines.str.len_bytes() != lines.str.len_chars())
    chosen = pl.when(odd).then(lines).otherwise(plain)
    return pl.DataFrame({"line": skeletons}).select(chosen).to_series()
