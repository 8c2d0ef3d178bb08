"""Cells of CSV files that people open in spreadsheets."""

from __future__ import annotations

# what makes a spreadsheet take a cell for a formula (OWASP, CSV injection)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def neutralised(cell: str) -> str:
    """The cell; one that a spreadsheet would compute gets an apostrophe before it, which makes it a text.

    A sign alone, such as the name of standard input, is none.
    """
    return f"'{cell}" if len(cell) > 1 and cell.startswith(FORMULA_STARTS) else cell
