"""Hashes of a chunk's lines: of a skeleton where it is known, else of a form in which numbers have no length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent.bulk.hash_table import Hashes, HashTable
from agent.data.readers.entries import EntryRule, begins_for_certain, has_time
from retrieval.text.canonical_lines import canonical_lines
from retrieval.text.kept_numbers import KeptNumbers
from retrieval.text.template_hash import column_hashes, joined, skeleton_hashes

if TYPE_CHECKING:
    import polars as pl

# skeletons beyond which none is remembered besides those of templates, and the share of the lines of a chunk with new
# ones from which on they are not hashed any more
_MOST_REMEMBERED, _MANY_NEW = 100_000, 0.5
# of a file whose entries begin with a time: the lines that surely do
_BEGINS = np.uint64(0x9E3779B97F4A7C15)


class LineHasher:
    """Hashes the lines of chunks, so that lines with the same hash are masked alike and are of the same kind.

    Parameters
    ----------
    table : HashTable
        The hashes met so far; it may change while lines are hashed.
    kept : KeptNumbers
        Numbers that masking leaves in texts.
    seed : int
    """

    def __init__(self, table: HashTable, kept: KeptNumbers, seed: int) -> None:
        self._table, self._kept, self._seed = table, kept, seed
        self._only_canonical = False

    def hash(self, data: bytes, lines: pl.Series, rule: EntryRule | None) -> tuple[Hashes, NDArray[np.int64], Hashes]:
        """Hashes of n lines, which of them are of the canonical form, and those lines' hashes otherwise."""
        columns = column_hashes(lines, self._kept, self._seed)
        may_be_rewritten = np.ones(len(lines), np.bool_) if rule is None else begins_for_certain(lines, rule)
        exact = None
        if not self._only_canonical or not may_be_rewritten.all():
            exact = skeleton_hashes(data, self._seed) + columns
            may_be_rewritten &= ~self._table.contains(exact)
        new = np.flatnonzero(may_be_rewritten)
        if not new.size:
            assert exact is not None
            return exact, new, exact[new]
        hashes = np.zeros(len(lines), np.uint64) if exact is None else exact.copy()
        hashes[new] = self._canonical(data, lines, new) + columns[new]
        if rule is not None and rule.begins is has_time:
            hashes[new] += _BEGINS
        return hashes, new, np.zeros(0, np.uint64) if exact is None else exact[new]

    def _canonical(self, data: bytes, lines: pl.Series, chosen: NDArray[np.int64]) -> Hashes:
        import polars as pl

        is_most = len(chosen) > len(lines) // 2
        some = data if is_most else joined(lines.gather(chosen))
        hashes = pl.read_lines(canonical_lines(some)).to_series().hash(self._seed).to_numpy()
        return hashes[chosen] if is_most else hashes

    def remember(self, hashes: Hashes, rewritten: NDArray[np.int64], exact: Hashes) -> None:
        """Add to the table the skeletons of lines that are known by their canonical form."""
        if not exact.size or len(self._table) > _MOST_REMEMBERED:
            self._only_canonical |= exact.size > _MANY_NEW * len(hashes)
            return
        distinct, first = np.unique(exact, return_index=True)
        numbers, known = self._table.get(hashes[rewritten[first]])
        known &= ~self._table.contains(distinct)
        self._table.put(distinct[known], numbers[known])
