"""Log entries over several lines: which lines begin an entry, and which belong to the entry before.

The rule is found once a file, from its first lines (`entry_rule`), and gives each line a `LineKind` by itself;
`agent.data.readers.entry_joining` decides from the kinds in their order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent.core.records import clean_text
from retrieval.text.masking import find_time

if TYPE_CHECKING:
    import polars as pl

# lines of a file from which its rule is found; characters of a line that decide its kind, and of a time
SAMPLED_LINES, DECIDING_CHARS, _TIME_CHARS = 256, 512, 80

_LEVELS = "TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|ERR|SEVERE|CRITICAL|CRIT|FATAL|ALERT|EMERG|PANIC"
_LEVEL = re.compile(rf"(?:\[[^\]\s]*\]\s+)?\W{{0,2}}(?:(?:{_LEVELS})\b|(?:level|lvl)=)")
# seconds since 1970 or since the start, and the priority of syslog
_NUMERIC_TIME = re.compile(r"\[\s*\d+\.\d{3,}\]|\d{10}(?:\.\d+)?\b|\d{13}\b|<\d{1,3}>")
# all that `find_time` finds as well, in less time
_COMMON_TIME = re.compile(r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d ")
# of the logs of web servers, within `_TIME_CHARS`
_ACCESS_TIME = (
    r"\d{1,3}(?:\.\d{1,3}){3} (?:-|[A-Za-z]{1,20}) (?:-|[A-Za-z]{1,20}) \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d"
)
# comments and rulers stand for themselves; #0, #1 … are frames
_SEPARATE = re.compile(r"#(?!\d)|[-=*_]{3}")
_TRACE = re.compile(
    r"\s+at \S|\s+File \"[^\"]*\", line \d|\s*\.\.\. \d+ (?:more|common frames)|\s*(?:Caused by|Suppressed): "
    r"|Traceback \(most recent call last\):|goroutine \d+ \["
)
_CAUSE = re.compile(r"Caused by: |\.\.\. \d+ more|-{2,}> ")
_FRAME = re.compile(r"\s+at \S")
_AFTER_INDENTED = re.compile(
    r"[\]})]+[,;]?\s*$|[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning|Iteration)\b(?::|$)"
    r"|[\w./*()\[\]{}·-]+\(.*\)$|created by \S"
)
_GOROUTINE = re.compile(r"goroutine \d+ \[")
_INDENTED = re.compile(r"(?:\t| {2})\s*[^\s\d]")
CONTAINER = re.compile(r"(\d{4}-\d\d-\d\dT\S+ (stdout|stderr) )([FP])(?::\S*)? ")
_NEARLY_ALL, _MOST, _MANY, _SOME = 0.9, 0.5, 0.2, 0.1


class LineKind(IntFlag):
    """What a line can be by itself; 0 begins an entry."""

    START = 0
    CONTINUATION = 1  # lacks what begins an entry
    INDENTED = 2
    FRAME = 4  # of a stack trace, after which the next exception is another entry
    AFTER = 8  # belongs to an indented line right before it
    PARTIAL = 16  # a container's runtime cut it: the next line goes on


@dataclass
class EntryRule:
    """What begins an entry in one file.

    Parameters
    ----------
    begins
        Whether a line that is not indented begins an entry; ``None``: each does, and indented lines follow it.
    reason
        Why a line is joined, for a person.
    label
        The position of the label among the words of an entry's first line.
    container
        Whether each line has the header of a Kubernetes container's log.
    by_digits
        Whether lines that differ only in their digits may differ in kind.
    """

    begins: Callable[[str], bool] | None
    reason: str
    label: int | None = None
    container: bool = False
    by_digits: bool = False
    noted: bool = field(default=False, init=False)

    @property
    def key(self) -> tuple[str, int | None, bool]:
        """What rules that give each line the same kind have in common."""
        return self.reason, self.label, self.container

    def kind(self, line: str) -> LineKind:
        """The kind of a line that is not blank."""
        line = line[:DECIDING_CHARS].rstrip("\r")
        if not self.container:
            return self._kind(line)
        header = CONTAINER.match(line)
        if header is None:
            return LineKind.START
        message = line[header.end() :]
        kind = self._kind(message) if message.strip() and self.reason else LineKind.START
        return kind | LineKind.PARTIAL if header[3] == "P" else kind

    def is_beginning(self, line: str) -> bool:
        """Whether an entry that begins with this line is whole, so that the line has a label."""
        return self.begins is None or not self.kind(line) & ~LineKind.PARTIAL

    def _kind(self, line: str) -> LineKind:
        is_indented = line[:1].isspace()
        if self.begins is None:
            return _kind_by_indentation(line)
        if self.by_digits:
            starts = self.begins(line) or (self.label is not None and self.begins(without_word(line, self.label)))
            return LineKind.START if starts else LineKind.CONTINUATION | LineKind.INDENTED * is_indented
        if is_indented:
            return LineKind.CONTINUATION | LineKind.INDENTED
        text = line if self.label is None else without_word(line, self.label)
        return LineKind.START if self.begins(text) or _SEPARATE.match(line) else LineKind.CONTINUATION

    def note(self) -> tuple[str, ...]:
        """The note for the first entry over several lines; none afterwards."""
        if self.noted:
            return ()
        self.noted = True
        reason = self.reason or "the container's runtime had cut it"
        return (f"one entry with the lines after it, as others below: {reason} (--multiline off: a line a record)",)


def _kind_by_indentation(line: str) -> LineKind:
    if _FRAME.match(line):
        return LineKind.INDENTED | LineKind.FRAME
    if _INDENTED.match(line) or _CAUSE.match(line) or (_TRACE.match(line) and line[:1].isspace()):
        return LineKind.INDENTED
    if _GOROUTINE.match(line):
        return LineKind.CONTINUATION
    return LineKind.AFTER if _AFTER_INDENTED.match(line) else LineKind.START


def without_word(line: str, number: int) -> str:
    """A line without one of its words and the space after it; all else is untouched."""
    words = [match.span() for match, _ in zip(re.finditer(r"\S+", line), range(number + 2), strict=False)]
    if number >= len(words):
        return line
    start = words[number][0]
    return line[:start] + line[words[number + 1][0] :] if number + 1 < len(words) else line[:start].rstrip()


def entry_rule(lines: Sequence[str], multiline: str, label: int | None) -> EntryRule | None:
    """The rule of a file that begins with these lines; ``None`` if each line is an entry.

    Parameters
    ----------
    lines
        The first lines; blank ones are left out.
    multiline
        ``auto``, ``off``, or a regular expression that the first line of an entry matches.
    label
        The position of the label among the words of an entry's first line.
    """
    if multiline == "off":
        return None
    lines = [line[:DECIDING_CHARS] for line in map(clean_text, lines) if line.strip()]
    container = bool(lines) and sum(map(bool, map(CONTAINER.match, lines))) >= _NEARLY_ALL * len(lines)
    if container:
        messages = [line[match.end() :] for line in lines if (match := CONTAINER.match(line))]
        lines = [message for message in messages if message.strip()]
    if multiline != "auto":
        pattern = re.compile(multiline)
        reason = f"they do not match {multiline!r}"
        return EntryRule(lambda line: bool(pattern.search(line)), reason, label, container, by_digits=True)
    return _found_rule(lines, label, container) or (EntryRule(None, "", label, container) if container else None)


def _found_rule(lines: Sequence[str], label: int | None, container: bool) -> EntryRule | None:
    heads = [line for line in lines if not (line[:1].isspace() or _TRACE.match(line) or _SEPARATE.match(line))]
    texts = heads if label is None else [without_word(line, label) for line in heads]
    for begins, reason in ((has_time, "they do not begin with a time"), (has_level, "they do not begin with a level")):
        starts = [begins(text) for text in texts]
        share = sum(starts) / max(len(starts), 1)
        if share >= _MOST or (share >= _MANY and starts[0]):
            if label is not None and _labels_each_line(heads, starts, label):
                return None
            return EntryRule(begins, reason, label, container)
    return EntryRule(None, "they are indented", label, container) if _shows_indentation(lines) else None


def has_time(text: str) -> bool:
    """Whether a line begins with a time."""
    return bool(_COMMON_TIME.match(text) or _NUMERIC_TIME.match(text)) or find_time(text[:_TIME_CHARS]) is not None


def begins_for_certain(lines: pl.Series, rule: EntryRule) -> NDArray[np.bool_]:
    """Which lines, of at most `DECIDING_CHARS` bytes, are of a kind that the length of no number changes, shape (n,).

    By a rule of times those that begin with one in a common notation, whose kind is `LineKind.START`.
    """
    if rule.by_digits or rule.begins is not has_time:
        return np.ones(len(lines), np.bool_)
    if rule.label not in (None, 0) or (rule.container and rule.label is not None):
        return np.zeros(len(lines), np.bool_)
    header = CONTAINER.pattern if rule.container else ""
    word = r"\S+\s+" if rule.label == 0 else ""
    pattern = rf"^{header}{word}(?:{_COMMON_TIME.pattern}|{_NUMERIC_TIME.pattern}|{_ACCESS_TIME})"
    return lines.str.contains(pattern).to_numpy()


def has_level(text: str) -> bool:
    """Whether a line begins with a level."""
    return bool(_LEVEL.match(text))


def _labels_each_line(heads: Sequence[str], starts: Sequence[bool], label: int) -> bool:
    """Whether lines that begin no entry have labels of their own."""
    words = [line.split()[label] if len(line.split()) > label else "" for line in heads]
    labels = {word for word, is_start in zip(words, starts, strict=True) if is_start}
    others = [word for word, is_start in zip(words, starts, strict=True) if not is_start]
    return sum(word in labels for word in others) * 2 > len(others)


def _shows_indentation(lines: Sequence[str]) -> bool:
    """Whether indented lines follow others, as in stack traces or pretty-printed values, and are not the most."""
    if any(_TRACE.match(line) and line[:1].isspace() for line in lines):
        return True
    if not lines or lines[0][:1].isspace():
        return False
    indented = sum(1 for line in lines if line[:1].isspace())
    fitting = sum(1 for line in lines if _INDENTED.match(line))
    heads = len(lines) - indented
    return fitting >= 2 and fitting == indented and heads >= 2 and heads >= _SOME * len(lines)
