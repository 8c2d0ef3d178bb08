"""Lines in a canonical form: numbers, addresses and identifiers are replaced by the shortest that are masked alike.

`mask(canonical) == mask(line)`, so lines with the same canonical form are of the same template, however long their
numbers are. A number is replaced only where its surroundings show that no rule of masking depends on its length: what
may be part of a time, a date or an address stays as it is. All lines of a chunk are rewritten by array.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retrieval.text.masking import MONTHS
from retrieval.text.prompt_injection import plain

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
Flags = NDArray[np.bool_]

# longest line that is rewritten, in bytes: of longer ones the length may decide how they are judged
MAX_LINE = 512
# bytes rewritten at a time, which the processor's cache holds; bytes around them that may be looked at
_PIECE, _MARGIN = 1 << 20, 48
_SHORTEST_HEX, _UUID, _DASHES = 8, 36, (8, 13, 18, 23)
# most separators that are looked back over for the name of a month
_MOST_SPACES = 6
_OTHER, _DIGIT, _HEX, _WORD, _HIGH = 0, 1, 2, 4, 8


def _classes() -> Bytes:
    classes = np.full(256, _OTHER, np.uint8)
    classes[128:] = _HIGH
    for characters, kind in ((b"0123456789", _DIGIT), (b"abcdefABCDEF", _HEX), (b"_", _WORD)):
        classes[list(characters)] = kind
    for first in b"gG":
        classes[first : first + 20] = _WORD
    return classes


_CLASSES = _classes()
_OF_MAIL = (_CLASSES != _OTHER) | np.isin(np.arange(256), list(b".+-@"))
_ALNUM = _DIGIT | _HEX | _WORD | _HIGH
_MONTH_CODES = np.array([(m[0] << 16) | (m[1] << 8) | m[2] for m in map(str.encode, MONTHS)], np.int64)


def canonical_lines(lines: bytes) -> bytes:
    r"""The lines (UTF-8, each with its ``\n``) in canonical form, in the same number and order.

    >>> canonical_lines(b"job 4711 of 10.0.0.123:5432 took 12.75 s at 0x7f3a9\n")
    b'job 1 of 1.1.1.1:1 took 1.1 s at 0x1\n'
    """
    pieces, start = list[bytes](), 0
    while start < len(lines):
        end = lines.find(b"\n", start + _PIECE) + 1 or len(lines)
        pieces.append(_Rewriting(lines[start:end]).result())
        start = end
    return b"".join(pieces)


@dataclass
class _Runs:
    """Runs of digits: where each starts and ends, and whether a separator joins it to the next one."""

    start: Places
    end: Places

    @cached_property
    def length(self) -> Places:
        return self.end - self.start


class _Rewriting:
    def __init__(self, lines: bytes) -> None:
        margin = b"\n" * _MARGIN
        self.raw = np.frombuffer(margin + lines + margin, np.uint8).copy()
        self.keep = np.ones(len(self.raw), np.bool_)

    def kind(self, places: Places) -> Bytes:
        return _CLASSES[self.raw[places]]

    def result(self) -> bytes:
        """The canonical lines."""
        self._excluded = self._excluded_parts()
        self._uuids()
        self._hex_words()
        self._addresses()
        self._numbers()
        raw = self.raw
        digits = raw - np.uint8(ord("0")) < 10
        # the 0 of 0x stays, unlike other digits
        before_x = np.flatnonzero((raw[1:] | np.uint8(32)) == ord("x"))
        before_x = before_x[raw[before_x] == ord("0")]
        raw[digits] = ord("1")
        raw[before_x] = ord("0")
        return raw[self.keep][_MARGIN:-_MARGIN].tobytes()

    def _excluded_parts(self) -> Places:
        """Starts and ends, alternating, of what stays as it is: lines, and what may be an address of mail."""
        raw = self.raw
        ends = np.flatnonzero(raw == ord("\n"))
        excluded = np.diff(ends) > MAX_LINE
        for line in np.unique(np.searchsorted(ends, np.flatnonzero(raw >= 128)) - 1).tolist():
            text = raw[ends[line] + 1 : ends[line + 1]].tobytes().decode("utf-8", "replace")
            # masking sees it normalised
            excluded[line] |= plain(text) != text
        chosen = np.flatnonzero(excluded)
        parts = [np.stack([ends[chosen], ends[chosen + 1]], axis=1), self._mail()]
        starts, stops = np.sort(np.concatenate(parts), axis=0).T
        # parts that overlap or touch are one
        is_first = np.append(True, starts[1:] > np.maximum.accumulate(stops)[:-1])[: len(starts)]
        is_last = np.append(is_first[1:], True)[: len(starts)]
        return np.stack([starts[is_first], np.maximum.accumulate(stops)[is_last]], axis=1).ravel()

    def _mail(self) -> Places:
        """The character before, and that after, of each part with an ``@`` that may be an address, shape (k, 2)."""
        raw = self.raw
        places = np.flatnonzero(raw == ord("@"))
        before, after = places.copy(), places.copy()
        for moved, step in ((before, -1), (after, 1)):
            active = np.ones(len(places), np.bool_)
            while active.any():
                moved += np.where(active, step, 0)
                active &= _OF_MAIL[raw[moved]]
        return np.stack([before, after], axis=1)

    def _included(self, places: Places) -> Places:
        if not self._excluded.size:
            return places
        included: Places = places[np.searchsorted(self._excluded, places) % 2 == 0]
        return included

    def _follows_number(self, starts: Places) -> Flags:
        """Whether what starts there may go on a number, time or address before it."""
        raw = self.raw
        joined = np.isin(raw[starts - 1], np.frombuffer(b".,:/+-", np.uint8))
        follows: Flags = joined & ((self.kind(starts - 2) & (_DIGIT | _HIGH)) > 0)
        return follows

    def _uuids(self) -> None:
        raw = self.raw
        dashes = self._included(np.flatnonzero(raw == ord("-")))
        dashes = dashes[(raw[dashes + 5] == ord("-")) & (raw[dashes + 10] == ord("-")) & (raw[dashes + 15] == ord("-"))]
        if not dashes.size:
            return
        starts = dashes - 8
        places = starts[:, None] + np.arange(_UUID)
        kinds = self.kind(places)
        kinds[:, list(_DASHES)] = _DIGIT
        fits = ((kinds & (_DIGIT | _HEX)) > 0).all(axis=1)
        fits &= (self.kind(starts - 1) & _ALNUM) == 0
        fits &= (self.kind(starts + _UUID) & _ALNUM) == 0
        fits &= ~self._follows_number(starts)
        # two that overlap are left alone
        fits[1:] &= np.diff(starts) >= _UUID
        places = places[fits]
        raw[np.delete(places, _DASHES, axis=1)] = ord("1")

    def _hex_words(self) -> None:
        """Words of hexadecimal digits: the first eight characters are kept."""
        raw = self.raw
        is_hex = (_CLASSES[raw] & (_DIGIT | _HEX)) > 0
        two = is_hex[:-1] & is_hex[1:]
        four = two[:-2] & two[2:]
        places = np.flatnonzero(four[:-4] & four[4:])
        if not places.size:
            return
        first = np.flatnonzero(np.diff(places, prepend=-2) != 1)
        starts, lasts = places[first], places[np.append(first[1:], len(places)) - 1]
        ends = lasts + _SHORTEST_HEX
        fits = (self.kind(starts - 1) & _ALNUM) == 0
        fits &= (self.kind(ends) & _ALNUM) == 0
        fits &= ~self._follows_number(starts)
        # what may be part of a UUID
        fits &= ~((raw[starts - 1] == ord("-")) & (raw[starts - 6] == ord("-")))
        fits &= ~((raw[ends] == ord("-")) & (raw[np.minimum(ends + 5, len(raw) - 1)] == ord("-")))
        starts, ends = starts[fits], ends[fits]
        included = self._included(starts)
        fits = np.isin(starts, included, assume_unique=True)
        starts, ends = starts[fits], ends[fits]
        if not starts.size:
            return
        lengths = ends - starts
        owner = np.repeat(np.arange(len(starts)), lengths)
        offset = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = starts[owner] + offset
        digits = np.bincount(owner, self.kind(places) == _DIGIT, minlength=len(starts))
        mixed = (digits > 0) & (digits < lengths)
        chosen = mixed[owner]
        places, offset = places[chosen], offset[chosen]
        raw[places] = np.where((offset == 0) | (offset >= _SHORTEST_HEX), ord("a"), ord("1"))
        self.keep[places[offset >= _SHORTEST_HEX]] = False

    def _addresses(self) -> None:
        """Numbers with 0x: one digit is kept."""
        raw = self.raw
        starts = self._included(np.flatnonzero((raw | np.uint8(32)) == ord("x")) - 1)
        starts = starts[(raw[starts] == ord("0")) & ((self.kind(starts - 1) & _ALNUM) == 0)]
        starts = starts[~self._follows_number(starts)]
        starts = starts[(self.kind(starts + 2) & (_DIGIT | _HEX)) > 0]
        ends, active = starts + 3, np.ones(len(starts), np.bool_)
        while active.any():
            active &= (self.kind(ends) & (_DIGIT | _HEX)) > 0
            ends += active
        fits = (self.kind(ends) & _ALNUM) == 0
        starts, ends = starts[fits], ends[fits]
        lengths = ends - starts - 2
        owner = np.repeat(np.arange(len(starts)), lengths)
        offset = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = starts[owner] + 2 + offset
        raw[places] = ord("1")
        self.keep[places[offset > 0]] = False

    def _numbers(self) -> None:
        raw = self.raw
        is_digit = raw - np.uint8(ord("0")) < 10
        edges = np.flatnonzero(is_digit[1:] != is_digit[:-1]) + 1
        runs = _Runs(edges[::2], edges[1::2])
        if not runs.start.size:
            return
        safe = self._safe(runs)
        if self._excluded.size:
            safe &= np.searchsorted(self._excluded, runs.start) % 2 == 0
        # the digits after the first of each run that is safe
        digits = np.flatnonzero(is_digit)
        dropped = np.repeat(safe, runs.length)
        dropped[np.cumsum(runs.length) - runs.length] = False
        self.keep[digits[dropped]] = False

    def _safe(self, runs: _Runs) -> Flags:
        """Whether the length of each run, shape (n,), does not matter."""
        raw, start, end, length = self.raw, runs.start, runs.end, runs.length
        n = len(start)
        following = raw[end]
        joins = np.zeros(n, np.bool_)
        joins[:-1] = (start[1:] == end[:-1] + 1) & ((following[:-1] == ord(".")) | (following[:-1] == ord(",")))
        is_first = np.ones(n, np.bool_)
        is_first[1:] = ~joins[:-1]
        first = np.flatnonzero(is_first)
        count = np.diff(np.append(first, n))
        last = first + count - 1
        before_safe = self._safe_before(start[first])
        after_safe = self._safe_after(end[last], length[last], start[last])
        is_word_before = (self.kind(start[first] - 1) & _ALNUM) > 0
        # without a point twice nothing but a number fits
        dots = following == ord(".")
        second = np.minimum(first + 1, n - 1)
        third = np.minimum(first + 2, n - 1)
        two_dots = (count >= 3) & dots[first] & dots[second]
        may_be_time = two_dots & (length[second] == 2)
        four_dots = two_dots & (count >= 4) & dots[third]
        fits = np.ones(len(first), np.bool_)
        fits[may_be_time & ~four_dots] = False
        if (quads := np.flatnonzero(four_dots)).size:
            at = first[quads]
            lengths = length[at[:, None] + np.arange(4)]
            is_time = (lengths[:, 0] <= 2) & (lengths[:, 1] == 2) & (lengths[:, 2] >= 2)
            is_date = (lengths[:, 0] >= 4) & (lengths[:, 1] == 2)
            is_address = (count[quads] == 4) & (lengths <= 3).all(axis=1) & ~is_time & ~is_date
            fits[quads] = is_address
            self._ports(quads[is_address & ~is_word_before[quads]], first, last, runs, before_safe, after_safe)
        return np.repeat(fits & before_safe & after_safe, count)

    def _ports(
        self, quads: Places, first: Places, last: Places, runs: _Runs, before_safe: Flags, after_safe: Flags
    ) -> None:
        """Mark the port after each address, and the address before it, as safe."""
        quads = quads[quads + 1 < len(first)]
        ports = quads + 1
        end, start = runs.end[last[quads]], runs.start[first[ports]]
        chosen = (self.raw[end] == ord(":")) & (start == end + 1) & (first[ports] == last[ports])
        chosen &= before_safe[quads] & after_safe[ports] & ((self.kind(runs.end[last[ports]]) & _ALNUM) == 0)
        after_safe[quads[chosen]] = True
        before_safe[ports[chosen]] = True

    def _safe_before(self, start: Places) -> Flags:
        raw = self.raw
        previous, before = raw[start - 1], raw[start - 2]
        kind, before_kind = _CLASSES[previous], _CLASSES[before]
        safe: Flags = (kind & (_HEX | _HIGH)) == 0
        # 0x
        safe &= ~(((previous | 32) == ord("x")) & (before == ord("0")))
        joined = np.isin(previous, np.frombuffer(b".,:/+-", np.uint8))
        safe &= ~(joined & ((before_kind & (_DIGIT | _HIGH)) > 0))
        # a word that is no hexadecimal number
        if (at := np.flatnonzero(kind == _HEX)).size:
            third, fourth = self.kind(start[at] - 3), self.kind(start[at] - 4)
            second = before_kind[at]
            safe[at] = (second == _WORD) | (
                (second == _HEX) & ((third == _WORD) | ((third == _HEX) & (fourth == _WORD)))
            )
        if (at := np.flatnonzero(safe & (previous == ord(":")) & ((before_kind == _HEX) | (before == ord(":"))))).size:
            colons = np.zeros(len(at), np.bool_)
            for back in (3, 4, 5, 6):
                colons |= raw[start[at] - back] == ord(":")
            safe[at] = ~colons & (before[at] != ord(":"))
        if (at := np.flatnonzero(safe & ((previous == ord("-")) | (previous == ord("+"))))).size:
            of_uuid = (before_kind[at] == _HEX) & (raw[start[at] - 6] == ord("-"))
            of_zone = (before[at] == ord(" ")) & ((self.kind(start[at] - 3) & (_DIGIT | _HIGH)) > 0)
            safe[at] = ~(of_uuid | of_zone)
        spaced = safe & ((previous == ord(" ")) | (previous == ord("/")))
        at = np.flatnonzero(spaced & ((before_kind & (_HEX | _WORD)) > 0))
        safe[at] = ~self._is_month(start[at] - 4)
        if (at := np.flatnonzero(spaced & ((before == ord(" ")) | (before == ord("/"))))).size:
            place = start[at] - 2
            for _ in range(_MOST_SPACES):
                place -= (raw[place] == ord(" ")) | (raw[place] == ord("/"))
            is_space = (raw[place] == ord(" ")) | (raw[place] == ord("/"))
            safe[at] = ~(is_space | self._is_month(place - 2))
        return safe

    def _safe_after(self, end: Places, length: Places, start: Places) -> Flags:
        raw = self.raw
        following, after = raw[end], raw[end + 1]
        kind, after_kind = _CLASSES[following], _CLASSES[after]
        safe: Flags = (kind & (_HEX | _HIGH)) == 0
        safe &= ~(((following | 32) == ord("x")) & (raw[end - 1] == ord("0")))
        is_number = (after_kind & (_DIGIT | _HIGH)) > 0
        is_slash, is_colon, is_dash = following == ord("/"), following == ord(":"), following == ord("-")
        safe &= ~(is_number & ((following == ord(".")) | (following == ord(",")) | is_slash | is_colon | is_dash))
        safe &= ~((is_colon | is_dash) & (after_kind == _HEX)) & ~(is_colon & (after == ord(":")))
        at = np.flatnonzero(safe & (is_slash | (following == ord(" "))) & (after < ord("T")) & (after > ord("@")))
        safe[at] = ~self._is_month(end[at] + 1)
        if (at := np.flatnonzero(kind == _HEX)).size:
            of_word = (self.kind(start[at] - 1) & (_HEX | _WORD)) > 0
            of_word |= _reaches_word(after_kind[at], self.kind(end[at] + 2), self.kind(end[at] + 3))
            ends = (after_kind[at] == _OTHER) & (after[at] != ord(":")) & (length[at] < _SHORTEST_HEX - 1)
            ends &= (after[at] != ord("-")) | (length[at] != 3)
            safe[at] = of_word | ends
        return safe

    def _is_month(self, place: Places) -> Flags:
        raw = self.raw
        code = (raw[place].astype(np.int64) << 16) | (raw[place + 1].astype(np.int64) << 8) | raw[place + 2]
        return np.asarray(np.isin(code, _MONTH_CODES), np.bool_)


def _reaches_word(first: Bytes, second: Bytes, third: Bytes) -> Flags:
    """Whether a letter that no hexadecimal number has comes first, or after one or two that such a number may have."""
    after_one = (second == _WORD) | ((second == _HEX) & (third == _WORD))
    reaches: Flags = (first == _WORD) | ((first == _HEX) & after_one)
    return reaches
