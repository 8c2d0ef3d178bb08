"""Masked texts to clauses and windows of clauses, so that a statement is found wherever it stands in a text.

Clauses end at punctuation marks, quotes and brackets, where known text begins or ends, and, without any of these, after
some words. A window is a clause, or a clause with those after it up to a short or a long text.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from retrieval.text.masking import PLACEHOLDER

# characters: least sizes of the two kinds of window, size of a piece of a clause, and of a text of a clause or two
_SHORT, _LONG, _PIECE, _MANY = 18, 72, 48, 100
# the longest entry that is compared as a record
_ENTRY_CHARS = 240
# words that must come in the same order to be known text
_RUN = 4
_ENTRY = re.compile(r"(?:^|\s+)(?=<(?:time|date)>)")
# scripts without spaces: each character is a word
_UNSPACED = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]"
_WORD = re.compile(rf"(?:{_UNSPACED}|(?:(?!{_UNSPACED})\S){{1,{_PIECE}}})\s?")
_MARKS = " \"“”«»„‟'‘’`(){}[]<>,.;:!?|=。；：！？，、｡…"
_ENDS = re.compile(r"[.;:!?,|\"“”«»„‟'‘’`(){}\[\]。；：！？，、｡]$|^[-=–—]+>?$")
_BEGINS = re.compile(r"^[\"“”«»„‟‘’'`(){}\[\]]")
_GLUED = re.compile(r"(?<=[\"}\]),;])(?=[\"{\[(])|(?<=\":)|\\n")
_QUOTES = '"“”«»„‟‘’`(){}[] '
_SPACE = re.compile(r"\s+")
_HAS_WORD = re.compile(rf"[^\W\d_]{{2}}|{_UNSPACED}")


@dataclass(frozen=True)
class _Word:
    text: str
    known: bool
    begins: bool
    goes_on: bool
    """Whether it begins a clause only because known text begins or ends there."""


def is_long(masked: str) -> bool:
    """Whether a masked text is longer than a clause or two.

    >>> is_long("<time> [<n>] LOG: checkpoint starting: time")
    False
    """
    return len(masked) > _MANY and len(_SPACE.sub(" ", PLACEHOLDER.sub(" ", masked))) > _MANY


class Known(NamedTuple):
    """Text that is known to be normal: hashes of runs of four words, of all words where there are fewer.

    ``exceptions`` are texts that are anomalous as a whole although each run is known: hashes of their first runs, their
    numbers of words, and hashes of all their words.
    """

    runs: frozenset[int]
    exceptions: frozenset[tuple[int, int, int]] = frozenset()

    @classmethod
    def of(cls, normal: Iterable[str], anomalous: Iterable[str] = ()) -> Known:
        """What is known from masked texts of either label."""
        normal_keys = [
            [key for _, key in words] for text in normal for words in map(_words, _ENTRY.split(text)) if words
        ]
        runs = frozenset(number for keys in normal_keys for number in _runs(keys))
        exceptions = set[tuple[int, int, int]]()
        for text in anomalous:
            entries = [words for words in map(_words, _ENTRY.split(text)) if words]
            keys = [key for _, key in entries[0]] if len(entries) == 1 else []
            if len(keys) >= _RUN and runs.issuperset(_runs(keys)):
                exceptions.add((_hash(keys[:_RUN]), len(keys), _hash(keys)))
        found = cls(runs, frozenset(exceptions))
        # what a normal text has as well is no exception
        normal_ones = {exception for keys in normal_keys for _, exception in found.exceptions_in(keys)}
        return cls(runs, found.exceptions - normal_ones)

    def exceptions_in(self, keys: Sequence[str]) -> Iterator[tuple[int, tuple[int, int, int]]]:
        """Where an exception begins in a sequence of words, and which."""
        if not self.exceptions:
            return
        lengths = defaultdict[int, set[int]](set)
        for first, length, _ in self.exceptions:
            lengths[first].add(length)
        for start, first in enumerate(_runs(keys)):
            for length in sorted(lengths.get(first, ())):
                exception = first, length, _hash(keys[start : start + length])
                if start + length <= len(keys) and exception in self.exceptions:
                    yield start, exception


NOTHING = Known(frozenset())


class Place(NamedTuple):
    """Where new text is: the windows that begin there, shortest first, and what is compared of it as records."""

    windows: tuple[str, ...]
    records: tuple[str, ...]


def windows(masked: str, known: Known = NOTHING) -> list[str]:
    """The distinct windows of a masked text that hold a word which is not known text, in order, see `places`.

    >>> windows("<time> ERROR: disk full; stopping")
    ['ERROR: disk full; stopping', 'disk full; stopping', 'stopping']
    >>> known = Known.of(["LOG: all is well with the disk"])
    >>> windows("LOG: all is well with the disk LOG: disk on fire", known)
    ['all is well with the disk LOG: disk on fire', 'LOG: disk on fire', 'disk on fire']
    """
    return list(dict.fromkeys(window for place in places(masked, known) for window in place.windows))


def places(masked: str, known: Known = NOTHING) -> list[Place]:
    """The places of a masked text where something is that is not known text, in order.

    No window goes beyond a time, where another entry may begin. The records of a place are its longest window and,
    where it is short and mostly new, its entry.

    Parameters
    ----------
    masked
        The text.
    known
        What is known to be normal.
    """
    found = []
    for entry in filter(str.strip, _ENTRY.split(masked)):
        marked = _marked(_words(entry), known)
        is_record = len(entry) <= _ENTRY_CHARS and 2 * sum(word.known for word in marked) <= len(marked)
        parts = [part for part in _clauses(marked) if _HAS_WORD.search(_text(part))]
        for start in range(len(parts)):
            if not (_is_new(parts[start]) or (parts[start + 1 :] and _is_new(parts[start + 1], goes_on=True))):
                continue
            texts, words, at = list[str](), list(parts[start]), start + 1
            for least in (_SHORT, _LONG):
                while at < len(parts) and len(_text(words)) < least:
                    words, at = words + parts[at], at + 1
                if _is_new(words):
                    texts.append(_text(words))
            if texts:
                record = entry.strip().rstrip(_QUOTES)
                records = (texts[-1], record) if is_record else (texts[-1],)
                found.append(Place(tuple(dict.fromkeys(texts)), records))
    return found


def _words(entry: str) -> list[tuple[str, str]]:
    """The words of an entry, each with marks after it, and with the key that it is compared by."""
    words = list[tuple[str, str]]()
    for word in _WORD.findall(_SPACE.sub(" ", _GLUED.sub(" ", PLACEHOLDER.sub(" ", entry)))):
        key = word.strip(_MARKS).casefold()
        if key or not words:
            words.append((word, key))
        else:
            words[-1] = words[-1][0] + word, words[-1][1]
    return words


def _runs(keys: Sequence[str]) -> Iterator[int]:
    """Hashes of the runs of words, one for each place where one begins."""
    for start in range(max(len(keys) - _RUN + 1, 1)):
        yield _hash(keys[start : start + _RUN])


def _hash(keys: Sequence[str]) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(keys).encode(), digest_size=8).digest(), "little")


def _marked(entry: Sequence[tuple[str, str]], known: Known) -> list[_Word]:
    """The words of an entry: which are known text, and which begin a clause."""
    is_known, keys = [False] * len(entry), [key for _, key in entry]
    for start, number in enumerate(_runs(keys) if known.runs else ()):
        if number in known.runs:
            is_known[start : start + _RUN] = [True] * min(_RUN, len(entry) - start)
    for start, (_, length, _) in known.exceptions_in(keys):
        is_known[start : start + length] = [False] * length
    marked, size = list[_Word](), 0
    for at, (text, _) in enumerate(entry):
        ends = (
            at == 0
            or size + len(text) > _PIECE
            or bool(_ENDS.search(entry[at - 1][0].rstrip()) or _BEGINS.search(text))
        )
        begins = ends or is_known[at] != is_known[at - 1]
        size = len(text) + (0 if begins else size + 1)
        marked.append(_Word(text, is_known[at], begins, begins and not ends))
    return marked


def _clauses(words: Sequence[_Word]) -> Iterator[list[_Word]]:
    number = 0

    def clause(word: _Word) -> int:
        nonlocal number
        number += word.begins
        return number

    for _, group in groupby(words, clause):
        yield list(group)


def _is_new(words: Sequence[_Word], *, goes_on: bool = False) -> bool:
    return not all(word.known for word in words) and (words[0].goes_on or not goes_on)


def _text(words: Sequence[_Word]) -> str:
    return "".join(word.text for word in words).strip(_QUOTES)
