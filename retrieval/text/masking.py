"""Lines to masked templates: the parts that vary from line to line are replaced by placeholders.

Lines with the same masked text are one template, which is embedded once and sent to the language model once. Literal
angle brackets of a line stay.
"""

from __future__ import annotations

import re

from retrieval.lru_cache import cached

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = rf"(?:{'|'.join(MONTHS)})"
_CLOCK = r"\d{1,2}[:.]\d{2}[:.]\d{2}(?:[.,]\d+)?"
_ZONE = r"(?: ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2})\b)?"

RULES = (
    ("time", rf"\d{{4}}[-/.]\d{{2}}[-/.]\d{{2}}[T -]{_CLOCK}{_ZONE}"),
    ("time", rf"\b(?:\d{{1,2}}[ /])?{_MONTH}[ /]+\d{{1,4}}[ :]+(?:{_CLOCK})?"),
    ("date", r"\b\d{4}[-/.]\d{2}[-/.]\d{2}\b|\b\d{2}/\d{2}/\d{2,4}\b"),
    ("time", rf"\b{_CLOCK}{_ZONE}"),
    ("uuid", r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"),
    ("email", r"\b[\w.+-]{1,64}@[\w-]{1,64}\.[A-Za-z]{2,}\b"),
    ("ip", r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"),
    ("ip", r"\b(?:[0-9a-fA-F]{1,4}:){3,7}:?[0-9a-fA-F]{1,4}\b|\b[0-9a-fA-F]{1,4}::[0-9a-fA-F]{1,4}\b"),
    ("hex", r"\b0[xX][0-9a-fA-F]+\b"),
    ("hex", r"\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b"),
    ("n", r"\d+(?:[.,]\d+)*"),
)
VARIABLE_PARTS = re.compile("|".join(f"(?P<r{i}>{pattern})" for i, (_, pattern) in enumerate(RULES)))
PLACEHOLDERS = {f"r{i}": f"<{name}>" for i, (name, _) in enumerate(RULES)}
PLACEHOLDER = re.compile(r"<(?:time|date|uuid|email|ip|hex|n)>")
# replacing a number may uncover an address next to it
_GLUED = re.compile(r"\w<|>\w")
_SPACE = re.compile(r"\s+")


# the key, the vector and the models each need the masked text
@cached(512)
def mask(text: str) -> str:
    """Replace times, addresses, identifiers and numbers, and collapse white space.

    >>> mask("2026-01-02 03:04:05.678 UTC [412] core.2275 at 0x7f3a from 10.0.0.7:5432")
    '<time> [<n>] core.<n> at <hex> from <ip>'
    """
    return remask(text)


def remask(text: str) -> str:
    """As `mask`, uncached."""
    masked = VARIABLE_PARTS.sub(_placeholder, text)
    if _GLUED.search(masked):
        masked = VARIABLE_PARTS.sub(_placeholder, masked)
    return _SPACE.sub(" ", masked).strip()


def _placeholder(match: re.Match[str]) -> str:
    return PLACEHOLDERS[match.lastgroup or ""]


# sessions consist of few different events
@cached(16_384)
def kind_of_event(event: str) -> str:
    """The kind of an event: its masked text, or the event itself when it is a name of one word.

    >>> kind_of_event("block 17 lost"), kind_of_event("E22")
    ('block <n> lost', 'E22')
    """
    return mask(event) if len(event.split()) > 1 else event.strip()


# what may stand before a line's time: anything with a digit or without letters, a weekday, a level, `user [`, `time=`
_HEADER_WORD = re.compile(
    r"[\W\d_]*|\[[^\s\]]*\]|(?=.*\d).*|\W*(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\W*"
    r"|\W*(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|ERR|SEVERE|CRITICAL|CRIT|FATAL|ALERT|EMERG)\W*"
    r"|\W*(?:@?timestamp|time|ts)\W*|level=\S*"
)
_PART_OF_TIME = re.compile(rf"\d[-/.:]\d\d[-/.:]\d|{_MONTH}")
_ACCESS_LOG = re.compile(r"\S+ \S+ \S+ \[")


def has_part_of_time(text: str) -> bool:
    """Whether a text has what any time or date has, and few other texts."""
    return _PART_OF_TIME.search(text) is not None


def find_time(line: str) -> str | None:
    """The time or date that a log line begins with, as it is written there; ``None`` if it begins with none.

    Before it may stand what headers of logs have there (a priority, a host with a number, a level), but no word of a
    message, so that a date inside a message is never taken for the time of the line.

    >>> find_time("web01 2026-01-02 03:04:05.678 UTC start")
    '2026-01-02 03:04:05.678 UTC'
    >>> find_time("backup of 2026-01-02 failed")
    """
    if not has_part_of_time(line):
        return None
    for match in VARIABLE_PARTS.finditer(line):
        if PLACEHOLDERS[match.lastgroup or ""] in ("<time>", "<date>"):
            before = line[: match.start()]
            in_header = _ACCESS_LOG.fullmatch(before) or all(map(_HEADER_WORD.fullmatch, before.split()))
            return match[0].strip() if in_header and "\n" not in before else None
    return None


def strip_placeholders(masked: str) -> str:
    """The masked text without its placeholders, which is what is embedded.

    >>> strip_placeholders("<time> [<n>] core.<n> at <hex> from <ip>")
    '[ ] core. at from'
    """
    return _SPACE.sub(" ", PLACEHOLDER.sub(" ", masked)).strip() or masked
