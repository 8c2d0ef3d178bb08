"""Hashes of lines, equal only for lines that are masked alike and of the same kind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from agent.bulk.hash_table import Hashes
from agent.core.requests import LONG
from agent.data.readers.entries import DECIDING_CHARS, EntryRule, begins_for_certain, has_time
from retrieval.text.kept_numbers import KeptNumbers
from retrieval.text.masked_forms import holds_mail, masked_forms
from retrieval.text.prompt_injection import may_have_injections
from retrieval.text.template_hash import column_hashes, joined, skeleton_hashes

if TYPE_CHECKING:
    import polars as pl

# what a text of names and values begins with, which it is or is not by the spaces in it
_PAIRS = r"^\s*\S+\s+is\s+\S+\s+\S+\s+is\s"
# what numbers and addresses consist of, without what separates their parts
_PARTS = "[0-9a-fA-F]+"
# lines from which on a second thread takes half of them: one thread takes longer to hash a chunk than to judge it
_MANY = 10_000
# lines that are looked at, and the share of distinct skeletons among them up to which forms are found for one line of
# each skeleton
_SAMPLE, _MOST_DISTINCT = 2_000, 0.5
_SECOND_WORD = r"^\s*\S+\s+\S"
_OF_SKELETON, _OF_PARTS, _OF_LABEL = map(np.uint64, (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


def line_hashes(
    lines: pl.Series, texts: pl.Series, kept: KeptNumbers, seed: int, rule: EntryRule | None = None
) -> Hashes:
    """Seeded hashes of n lines, shape (n,).

    Parameters
    ----------
    lines
        Without line ends and NUL.
    texts
        The lines, or what follows their labels.
    kept
        Numbers that masking leaves in texts.
    seed
    rule
        What begins an entry in the file; None if each line is one.
    """
    has_labels, half = texts is not lines, len(lines) // 2
    if len(lines) < _MANY:
        return _hashes_of(lines, texts, kept, seed, rule, has_labels=has_labels)
    second = _second_thread().submit(_hashes_of, lines[half:], texts[half:], kept, seed, rule, has_labels=has_labels)
    first = _hashes_of(lines[:half], texts[:half], kept, seed, rule, has_labels=has_labels)
    return np.concatenate([first, second.result()])


@cache
def _second_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="hashing")


def _hashes_of(
    lines: pl.Series, texts: pl.Series, kept: KeptNumbers, seed: int, rule: EntryRule | None, *, has_labels: bool
) -> Hashes:
    first = copies = np.arange(len(texts))
    if _has_few_skeletons(texts, seed):
        # lines of one skeleton are masked alike: a form takes longer to find
        _, first, copies = np.unique(skeleton_hashes(joined(texts), seed), return_index=True, return_inverse=True)
    longest = LONG if rule is None else DECIDING_CHARS
    forms = masked_forms(texts.gather(first), longest=longest, keeps_numbers=bool(kept))
    hashes = forms.hash(seed).to_numpy()[copies]
    exact = texts.str.contains(_PAIRS).to_numpy(writable=True)
    if len(mail := np.flatnonzero(holds_mail(forms).to_numpy()[copies])):
        exact[mail] |= may_have_injections(texts.gather(mail))
    if rule is not None and rule.begins is has_time and not rule.by_digits:
        exact |= ~begins_for_certain(lines, rule)
    elif rule is not None:
        # what separates the parts of a number or a time may decide the kind of a line
        hashes += _OF_PARTS * lines.str.replace_all(_PARTS, "").hash(seed).to_numpy()
    if len(places := np.flatnonzero(exact)):
        hashes[places] = _OF_SKELETON + skeleton_hashes(joined(lines.gather(places)), seed)
    if has_labels:
        # nothing but a label is no record
        hashes[~lines.str.contains(_SECOND_WORD).to_numpy()] += _OF_LABEL
    return hashes + column_hashes(lines, kept, seed) if kept else hashes


def _has_few_skeletons(texts: pl.Series, seed: int) -> bool:
    """Whether many of the lines have the same skeleton, by some of them."""
    if not len(texts):
        return False
    sample = texts.gather_every(-(-len(texts) // _SAMPLE))
    return len(np.unique(skeleton_hashes(joined(sample), seed))) <= _MOST_DISTINCT * len(sample)
