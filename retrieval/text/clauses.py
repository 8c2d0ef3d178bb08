"""Masked texts to clauses and windows of clauses, so that a statement is found wherever it stands in a text.

Clauses end at punctuation marks, quotes and brackets, where known text begins or ends, and, without any of these, after
some words. A window is a clause, or a clause with those after it up to a short or a long text. What stands between
known texts is compared as a record, and so is an entry that is mostly new; the text of an anomalous case is found
wherever it stands.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

from retrieval.text.masking import PLACEHOLDER

# characters: least sizes of the two kinds of window, size of a piece of a clause, and of a text of a clause or two
_SHORT, _LONG, _PIECE, _MANY = 18, 72, 48, 100
# the longest entry that is compared as a record
_ENTRY_CHARS = 240
# words that must come in the same order to be known text, and the fewest that a whole text of its own must have
_RUN, _FEWEST = 4, 2
_ENTRY = re.compile(r"(?:^|\s+)(?=<(?:time|date)>)")
# scripts without spaces: each character is a word
_UNSPACED = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]"
_WORD = re.compile(rf"(?:{_UNSPACED}|(?:(?!{_UNSPACED})\S){{1,{_PIECE}}})")
_MARKS = " \"“”«»„‟'‘’`(){}[]<>,.;:!?|=。；：！？，、｡…"
_ENDS = re.compile(r"[.;:!?,|\"“”«»„‟'‘’`(){}\[\]。；：！？，、｡]$|^[-=–—]+>?$")
_BEGINS = re.compile(r"^[\"“”«»„‟‘’'`(){}\[\]]")
_GLUED = re.compile(r"(?<=[\"}\]),;])(?=[\"{\[(])|(?<=\":)|\\n")
_QUOTES = '"“”«»„‟‘’`(){}[] '
_SPACE = re.compile(r"\s+")
_HAS_WORD = re.compile(rf"[^\W\d_]{{2}}|{_UNSPACED}")


class _Token(NamedTuple):
    """A word with marks after it, the key that it is compared by, and where it stands in the entry."""

    key: str
    start: int
    end: int


@dataclass(frozen=True)
class _Word:
    start: int
    end: int
    known: bool
    """Whether it is known to be normal."""
    read: bool
    """Whether it is that, or of an anomalous case."""
    begins: bool
    goes_on: bool
    """Whether it begins a clause only because known text begins or ends there."""


def is_long(masked: str) -> bool:
    """Whether a masked text is longer than a clause or two.

    >>> is_long("<time> [<n>] LOG: checkpoint starting: time")
    False
    """
    return len(masked) > _MANY and len(_SPACE.sub(" ", PLACEHOLDER.sub(" ", masked))) > _MANY


@dataclass(frozen=True)
class Known:
    """Text of cases.

    Parameters
    ----------
    runs
        Hashes of what is known to be normal: runs of four words, and all words of texts that have fewer.
    anomalous
        Texts of anomalous cases that no normal case has: hashes of their first runs, their numbers of words, and hashes
        of all their words.
    entries
        Hashes of anomalous cases' masked texts, placeholders included, that are no normal case's.
    """

    runs: frozenset[int] = frozenset()
    anomalous: frozenset[tuple[int, int, int]] = frozenset()
    entries: frozenset[int] = frozenset()

    @classmethod
    def of(cls, normal: Iterable[str], anomalous: Iterable[str] = ()) -> Known:
        """What is known from masked texts of either label."""
        normal, anomalous = list(normal), list(anomalous)
        normal_keys = [keys for text in normal for keys in map(_keys, _ENTRY.split(text)) if keys]
        runs = frozenset(number for keys in normal_keys for number in _runs(keys))
        texts = set[tuple[int, int, int]]()
        for text in anomalous:
            of_entries = [keys for keys in map(_keys, _ENTRY.split(text)) if keys]
            if len(of_entries) == 1 and len(" ".join(of_entries[0])) >= _SHORT:
                (keys,) = of_entries
                texts.add((_hash(keys[:_RUN]), len(keys), _hash(keys)))
        found = cls(runs, frozenset(texts))
        normal_ones = {text for keys in normal_keys for _, text in found.anomalous_in(keys)}
        entries = {_hash([text.strip()]) for text in anomalous} - {_hash([text.strip()]) for text in normal}
        return cls(runs, found.anomalous - normal_ones, frozenset(entries))

    @cached_property
    def _lengths(self) -> Mapping[int, Sequence[int]]:
        """Numbers of words of the anomalous texts, by the hash of their first run, ascending."""
        lengths = defaultdict[int, set[int]](set)
        for first, length, _ in self.anomalous:
            lengths[first].add(length)
        return {first: sorted(numbers) for first, numbers in lengths.items()}

    def anomalous_in(self, keys: Sequence[str]) -> Iterator[tuple[int, tuple[int, int, int]]]:
        """Where the text of an anomalous case begins in a sequence of words, and which."""
        if not self.anomalous:
            return
        for start in range(len(keys)):
            for size in range(_FEWEST, _RUN + 1):
                first = _hash(keys[start : start + size])
                for length in self._lengths.get(first, ()):
                    text = first, length, _hash(keys[start : start + length])
                    if start + length <= len(keys) and text in self.anomalous:
                        yield start, text

    def normal_in(self, keys: Sequence[str]) -> list[bool]:
        """Which of a sequence of words are known to be normal."""
        known = [False] * len(keys)
        for start in range(len(keys) if self.runs else 0):
            for size in range(min(_FEWEST, len(keys)), min(_RUN, len(keys) - start) + 1):
                if _hash(keys[start : start + size]) in self.runs:
                    known[start : start + size] = [True] * size
        return known


NOTHING = Known()


class Place(NamedTuple):
    """Where new text is: the windows that begin there, shortest first, and what is compared of it as records."""

    windows: tuple[str, ...]
    records: tuple[str, ...]
    is_case: bool = False
    """Whether it is the text of an anomalous case."""


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
    """The places of a masked text where something is that is not known to be normal, in order.

    No window goes beyond a time, where another entry may begin, nor, once it is a short text, into known text. The
    records of a place are its longest window, where new text begins all that is new up to known text, and, where it is
    short and mostly new, its entry, which alone is compared if it begins with a time. The text of an anomalous case is
    a place.

    Parameters
    ----------
    masked
        The text.
    known
        What is known to be normal, or anomalous.
    """
    return [place for text in filter(str.strip, _ENTRY.split(masked)) for place in _places(_Entry(text), known)]


class _Entry:
    """A text with the places of its words."""

    def __init__(self, text: str) -> None:
        self.text = _GLUED.sub(" ", text)
        # of the same length
        self._words = PLACEHOLDER.sub(lambda match: " " * len(match[0]), self.text)
        self.tokens = list[_Token]()
        for match in _WORD.finditer(self._words):
            key = match[0].strip(_MARKS).casefold()
            if key or not self.tokens:
                self.tokens.append(_Token(key, *match.span()))
            else:
                self.tokens[-1] = self.tokens[-1]._replace(end=match.end())

    def words(self, start: int, end: int) -> str:
        """What the models of clauses read of a part: its words without placeholders."""
        return " ".join(self._words[start:end].split()).strip(_QUOTES)

    def record(self, start: int, end: int) -> str:
        """A part as a record of its own: with the placeholders after it, and those that the entry begins with."""
        following = next((token.start for token in self.tokens if token.start >= end), len(self.text))
        first = start == self.tokens[0].start
        return self.text[0 if first else start : following].strip().rstrip(_QUOTES)


def _places(entry: _Entry, known: Known) -> list[Place]:
    text = entry.text.strip()
    if known.entries and _hash([text]) in known.entries:
        return [Place((entry.words(0, len(entry.text)),), (text,), is_case=True)]
    keys = [token.key for token in entry.tokens]
    cases = _longest(known.anomalous_in(keys))
    words = _marked(entry, known.normal_in(keys), cases)
    is_record = len(text) <= _ENTRY_CHARS and 2 * sum(word.known for word in words) <= len(words)
    whole = [text.rstrip(_QUOTES)] if is_record else []
    found = list[Place]()
    for first, last in cases:
        start, end = entry.tokens[first].start, entry.tokens[last].end
        before = entry.tokens[first - 1].end if first else 0
        # with the placeholders on either side, or without those before it
        record = entry.record(before, end)
        bare = record.removeprefix(entry.text[before:start].lstrip())
        records = [record, bare, *whole]
        found.append(_place([entry.words(start, end)], records)._replace(is_case=True))
    parts = [part for part in _clauses(words) if _HAS_WORD.search(entry.words(part[0].start, part[-1].end))]
    for at, part in enumerate(parts):
        if not (_is_new(part) or (parts[at + 1 :] and _is_new(parts[at + 1], goes_on=True))):
            continue
        start, spans = part[0].start, _spans(entry, parts[at:])
        if spans and whole and PLACEHOLDER.match(text):
            # it begins with a time, as a line of a log does
            found.append(_place([entry.words(start, end) for end in spans], whole))
        elif spans:
            records = [entry.record(start, spans[-1])]
            if not part[0].read and (at == 0 or parts[at - 1][-1].read):
                end = next((other[0].start for other in parts[at:] if other[0].read), len(entry.text))
                end = max(word.end for other in parts[at:] for word in other if word.end <= end)
                records += [entry.record(start, end)] if end - start <= _ENTRY_CHARS else []
            found.append(_place([entry.words(start, end) for end in spans], records + whole))
    return found


def _place(texts: Sequence[str], records: Sequence[str]) -> Place:
    return Place(tuple(dict.fromkeys(texts)), tuple(dict.fromkeys(records)))


def _spans(entry: _Entry, parts: Sequence[Sequence[_Word]]) -> list[int]:
    """Where the windows that begin with the first of these clauses end: once short, once long or at known text."""
    ends, words, at = list[int](), list(parts[0]), 1

    def size() -> int:
        return len(entry.words(words[0].start, words[-1].end))

    for least in (_SHORT, _LONG):
        while at < len(parts) and size() < least and not (least == _LONG and parts[at][0].read and ends):
            words, at = [*words, *parts[at]], at + 1
        if _is_new(words):
            ends.append(words[-1].end)
    return ends


def _longest(found: Iterable[tuple[int, tuple[int, int, int]]]) -> list[tuple[int, int]]:
    """The first and last words of texts that do not overlap, the longest of those that do, in order."""
    chosen = list[tuple[int, int]]()
    for start, (_, length, _) in sorted(found, key=lambda place: (-place[1][1], place[0])):
        if all(start + length <= first or last < start for first, last in chosen):
            chosen.append((start, start + length - 1))
    return sorted(chosen)


def _keys(entry: str) -> list[str]:
    """What the words of an entry are compared by."""
    return [token.key for token in _Entry(entry).tokens if token.key]


def _runs(keys: Sequence[str]) -> Iterator[int]:
    """Hashes of the runs of words, one for each place where one begins."""
    for start in range(max(len(keys) - _RUN + 1, 1)):
        yield _hash(keys[start : start + _RUN])


def _hash(keys: Sequence[str]) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(keys).encode(), digest_size=8).digest(), "little")


def _marked(entry: _Entry, known: Sequence[bool], cases: Sequence[tuple[int, int]]) -> list[_Word]:
    """The words of an entry: which are known text, and which begin a clause."""
    of_case = [0] * len(known)
    for number, (first, last) in enumerate(cases, start=1):
        of_case[first : last + 1] = [number] * (last + 1 - first)
    marked, size, before = list[_Word](), 0, ""
    for at, token in enumerate(entry.tokens):
        text, length = entry.text[token.start : token.end], token.end - token.start
        ends = at == 0 or size + length > _PIECE or bool(_ENDS.search(before) or _BEGINS.search(text))
        begins = ends or (known[at], of_case[at]) != (known[at - 1], of_case[at - 1])
        size, before = length + (0 if begins else size + 1), text
        is_known = known[at] and not of_case[at]
        marked.append(
            _Word(token.start, token.end, is_known, is_known or bool(of_case[at]), begins, begins and not ends)
        )
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
    return not all(word.read for word in words) and (words[0].goes_on or not goes_on)
