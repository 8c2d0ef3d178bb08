"""What a text looks like: a record, a sentence of a person, or a sentence around a record."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agent.core.locale import language_of

# characters of a message that is talk; the patterns would take minutes for a record of megabytes
LONGEST_TALK = 2_000
# words of a request before or after a record, cuts that are tried
_MAX_LEAD_WORDS, _MAX_CUTS = 8, 8
_LEVELS = "ERROR|WARN(?:ING)?|INFO|FATAL|DEBUG|CRITICAL|NOTICE|TRACE|PANIC|SEVERE|LOG|FAILURE|EMERG|ALERT"
_LEVEL = re.compile(rf"\b(?:{_LEVELS})\b")
_BEGINNING = re.compile(
    r"[\[<(]?(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}:\d{2}:\d{2}|[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d|\d{9,}"
    rf"|(?:{_LEVELS})\b)"
)
_STAMP = re.compile(r"\d{1,2}:\d{2}:\d{2}|\b\d{4}[-/.]\d{2}[-/.]\d{2}\b|^\S+\s+\d+ \d\d:\d\d|\[\d+\]|\b\d{10}\b")
# ``app[7]: text``, ``kernel: text``
_PREFIX = re.compile(r"^\W*[A-Za-z][\w./-]*(?:\[\w+\])?: \S")
_SHAPES = (
    re.compile(r"\b[\w.]+=\S"),
    re.compile(r"(?:^|\s)/[\w.-]+/[\w./-]+|[A-Za-z]:\\"),
    re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\b0x[0-9a-fA-F]+\b"),
    re.compile(r"\b(?:GET|POST|PUT|DELETE|SELECT|INSERT|UPDATE|CREATE)\b"),
    re.compile(r"\d.*\D\d.*\D\d"),
    re.compile(r"[A-Za-z]\w*[._:]\w+[(:]"),
)
_QUESTION = re.compile(
    # a mark at the end, an interrogative or an auxiliary at the beginning
    r"[?\uff1f]\W*$"
    r"|^\W*(?:(?:and|so|but|ok|okay|hey|hm+|wait|please|sorry)\W+)*(?:what|whats|wat|why|y|how|when|where|who"
    r"|whom|whose|which|wich"
    r"|is|are|was|were|do|does|did|can|could|should|would|will|any|have|has|may|shall)(?:'s|n't)?(?![\w./=:-])"
    # Korean: interrogatives, endings of questions
    r"|왜|무엇|무슨|뭐|뭘|뭔|어떤|어떻게|어디|어느|어째|언제|누가|누구|얼마|몇\s?(?:개|건|번)|(?:까|나요|가요|는지|던가|을래|ㄹ래)\W*$"
    # Chinese: interrogatives, particles
    r"|什么|为何|为啥|怎么|怎样|如何|多少|哪[个条些里儿一]|[几谁啥咋]|是否|是不是|有没有|[吗呢么]\W*$",
    re.IGNORECASE,
)
_PERSON = re.compile(
    r"\b(?:i|i'm|i'd|i've|me|my|mine|you|u|your|yours|we|us|our|please|pls|plz|let's|lets|thanks|thx|thank)\b"
    # Korean: requests and forms of address; Chinese: the same
    r"|해\s?줘|해\s?주|줘(?:요|\W|$)|주세요|주십시오|줄래|줄게|하자|싶어|싶습|부탁|알려|보여|나한테|제가|내가|너는|네가|당신"
    r"|[我你您请]|咱|麻烦|帮忙|一下|看看|[吧啊呀哦]\W*$",
    re.IGNORECASE,
)
_FENCE = re.compile(r"(?:^|\n)[ \t]*(?:```|~~~)[^\n]*\n(.*?)(?:\n[ \t]*(?:```|~~~)[ \t]*(?=\n|$)|$)", re.DOTALL)
_INLINE = re.compile(r"`{1,3}([^`\n]{6,})`{1,3}|[\"“「『']([^\"”」』\n]{10,})[\"”」』']")
# three words or more in a message of another script
_ASCII_IN_OTHER = re.compile(r"[!-~]+(?:[ \t]+[!-~]+){2,}")
_FILE_TYPES = "log|txt|csv|tsv|jsonl?|ndjson|parquet|xml|gz|zst|bz2|xlsx?|evtx|out"
_PATH = re.compile(
    rf"(?<![\w/.])(?:(?:~|\.{{1,2}})?/[\w.@%+~-]+(?:/[\w.@%+~-]+)*/?|[A-Za-z]:\\\S+|[\w.-]+(?:/[\w.-]+)*\.(?:{_FILE_TYPES})\b)",
    re.ASCII,
)


def is_question(message: str) -> bool:
    """Whether a text is a question, by its marks and words."""
    return bool(_QUESTION.search(message.strip()))


def is_personal(message: str) -> bool:
    """Whether a text speaks of *I* or *you* or requests something, which records seldom do."""
    return bool(_PERSON.search(message))


def begins_like_record(text: str) -> bool:
    """Whether a text begins with a time or a level of severity, as log lines do."""
    return bool(_BEGINNING.match(text))


def record_likeness(text: str) -> int:
    """How many marks of a log line or a row a text has; two or more hardly ever come in a conversation."""
    if len(text) > LONGEST_TALK or "\n" in text.strip() or text.lstrip()[:1] in ("{", "["):
        return 3
    marks = 2 * bool(_STAMP.search(text)) + 2 * bool(_LEVEL.search(text)) + 2 * bool(_PREFIX.search(text))
    marks += sum(bool(shape.search(text)) for shape in _SHAPES)
    digits = sum(character.isdigit() for character in text)
    return marks + (digits >= 4)


def fenced(message: str) -> str | None:
    """What stands between the fences of code blocks, if there are any."""
    blocks = [block for block in _FENCE.findall(message) if block.strip()]
    return "\n".join(blocks) if blocks else None


def path_in(message: str) -> tuple[str, str] | None:
    """The path of a file that a message names, and the rest of the message."""
    match = _PATH.search(message)
    if not match or "\n" in message:
        return None
    return match[0], (message[: match.start()] + " " + message[match.end() :]).strip(" \"'`")


def cuts(message: str) -> Iterator[tuple[str, str]]:
    """How a line may be cut into a request ("could you check this:") and a record; the likeliest first.

    The request stands before the record, after it, or around it where the record is quoted.
    """
    for quoted in _INLINE.finditer(message):
        inside = next(group for group in quoted.groups() if group)
        yield f"{message[: quoted.start()]} {message[quoted.end() :]}", inside
    for block in _ASCII_IN_OTHER.finditer(message) if language_of(message) else ():
        yield f"{message[: block.start()]} {message[block.end() :]}", block[0]
    ends = [match.end() for match in re.finditer(r"[:?!\uff1a\uff1f\uff01]\s*|\s[-\u2013\u2014>]+\s+", message)]
    for end in ends[:_MAX_CUTS]:
        yield message[:end], message[end:]
    for match in list(re.finditer(r"[.,;!]\s+|[\uff0c\u3002]\s*|\s[-\u2013\u2014<]+\s+", message))[-_MAX_CUTS:][::-1]:
        yield message[match.end() :], message[: match.start()]
    words = [match.start() for match in re.finditer(r"(?<=\s)\S", message)]
    for start in words[:_MAX_LEAD_WORDS]:
        # a level of severity alone may be what a question is about
        if begins_like_record(rest := message[start:]) and len(rest.split()) > 3 and not is_question(rest):
            yield message[:start], message[start:]


def unmarked_cuts(message: str) -> Iterator[tuple[str, str]]:
    """Further cuts of a line, between any words near its ends."""
    words = [match.start() for match in re.finditer(r"(?<=\s)\S", message)]
    for start in words[:_MAX_LEAD_WORDS]:
        yield message[:start].strip(), message[start:].strip()
    for start in words[-_MAX_LEAD_WORDS:]:
        yield message[start:].strip(), message[:start].strip()
