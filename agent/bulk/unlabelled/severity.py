"""How severe a log line says it is: by its level, and by words that tell of errors."""

from __future__ import annotations

import re

_HEADER_CHARS, _WORDS_CHARS = 160, 600
_LEVELS = {
    "emerg": 1.0, "emergency": 1.0, "panic": 1.0, "alert": 1.0, "fatal": 1.0, "crit": 1.0, "critical": 1.0,
    "severe": 0.9, "error": 0.9, "err": 0.9, "failure": 0.9, "e": 0.9, "f": 1.0,
    "warning": 0.6, "warn": 0.6, "w": 0.6,
    "notice": 0.1, "info": 0.0, "information": 0.0, "informational": 0.0, "i": 0.0, "log": 0.0, "statement": 0.0,
    "config": 0.0, "debug": 0.0, "trace": 0.0, "verbose": 0.0, "fine": 0.0, "d": 0.0, "v": 0.0,
}  # fmt: skip
_NAMES = "|".join(sorted((name for name in _LEVELS if len(name) > 1), key=len, reverse=True))
_LEVEL = re.compile(
    # in capitals; or in any case in brackets, after a key, or right after a time
    rf"(?<![\w/.-])(?P<caps>{_NAMES.upper()})(?![\w/-])"
    rf"|(?i:[\[<(|](?:\w+:)?(?P<bracket>{_NAMES})[\]>)|]|\b(?:level|lvl|severity|priority)\W{{1,3}}(?P<key>{_NAMES})\b"
    rf"|\d[\d:.,]+\]?[ ,]+(?P<after>{_NAMES})\b[ ,:]"
    # Android's, and glog's at the beginning
    r"|\d+\s+\d+\s+(?P<letter>[VDIWEF])\s|^(?P<glog>[IWEF])\d{4}\s)"
)
# stems of words for what went wrong
_ERRORS = re.compile(
    r"\b(?:errors?|err|fail\w*|fatal\w*|panic\w*|exceptions?|critical|crit|emerg\w*|alert\w*|warn\w*|severe|abort\w*"
    r"|den(?:y|ied|ies)|refus\w+|reject\w*|invalid\w*|illegal|unauthori[sz]ed|forbid\w*|violat\w+|attack\w*|break-?in"
    r"|crash\w*|corrupt\w*|time-?d?[ -]?outs?|unable|cannot|can't|couldn't|could not|can not|not found|no such|missing"
    r"|lost|broken|unreachable|unavailable|overflow\w*|overload\w*|exceed\w*|kill\w*|dead\w*|died|segfault\w*"
    r"|abnormal\w*|unexpected\w*|unknown|unrecogni[sz]ed|unsupported|drop(?:ped|ping|s)?|expir\w+|reset|bad|wrong"
    r"|conflict\w*|no space|out of memory|oom\w*|leak\w*|fault\w*|mismatch\w*|interrupt(?:ed|ing)|too many|traceback"
    r"|not (?:responding|connected|available|running|ready|permitted|allowed|supported)|unhealthy|evict\w+|backoff"
    r"|degraded|stale|throttl\w+|malformed|halt\w*|suspect\w*|incorrect|insufficient)\b"
    r"|\w+(?:Exception|Error)\b|(?<![a-z])E_[A-Z]|_E_|ERROR_",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"\b(?:no|0|zero|without|any|if|on) (?:errors?|fail\w*|warn\w*|exceptions?)\b"
    r"|\btime-?out\w*\W{1,3}(?:(?:of|is|was|to|set to)\W)?(?=[\d<])"
    r"|\b(?:errors?|fail\w*|warnings?|exceptions?)\s*[=:]\s*(?:0\b|null|none|false|nil|\"\")",
    re.IGNORECASE,
)


def level(text: str) -> tuple[str, float] | None:
    """The level that a line names, and its severity from 0 to 1; None if it names none.

    >>> level("[Sun Dec 04 04:47:44 2005] [error] mod_jk child")
    ('error', 0.9)
    """
    match = _LEVEL.search(text[:_HEADER_CHARS])
    if match is None:
        return None
    name = str(match[match.lastgroup or 0])
    return name, _LEVELS[name.casefold()]


def level_of_value(value: str) -> tuple[str, float] | None:
    """The same of the value of a column for levels."""
    severity = _LEVELS.get(value.strip().casefold())
    return None if severity is None else (value.strip(), severity)


def error_words(text: str) -> int:
    """How many words of a text tell of errors, its level included.

    >>> error_words("Failed password for root"), error_words("done, no errors")
    (1, 0)
    """
    return len(_ERRORS.findall(_NEGATED.sub(" ", text[:_WORDS_CHARS])))


_STATUS = re.compile(
    r"(?:HTTP/[\d.]+\"?|\b(?:http_)?status(?:_?code)?|\bcode)\W{1,3}(?P<status>[1-5]\d\d)\b", re.IGNORECASE
)
_EXIT = re.compile(r"\bexit(?:ed)?(?: with)?(?:[ _](?:code|status))?\W{1,3}(?:-|[1-9])\d{0,2}\b", re.IGNORECASE)


def status_severity(text: str) -> float:
    """The severity of a status that a text holds: of HTTP, or of a process that ended.

    >>> status_severity('"GET / HTTP/1.1" 503 12'), status_severity("exit code 0")
    (0.9, 0.0)
    """
    text = text[:_WORDS_CHARS]
    if (found := _STATUS.search(text)) and found["status"] >= "400":
        return 0.9 if found["status"] >= "500" else 0.5
    return 0.5 if _EXIT.search(text) else 0.0
