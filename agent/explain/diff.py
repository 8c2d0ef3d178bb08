"""What a record has that its nearest normal case lacks, and the other way round, in a few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from retrieval.text.masking import kind_of_event

_WORDS_COMPARED = 200
_PHRASES = 3
_WORDS_A_PHRASE = 6
_LONGEST = 60


def quote_text(text: str) -> str:
    """A text on one line, in quotation marks, at most 60 characters of it."""
    text = " ".join(text.split())
    return f"“{text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'}”"


def diff_words(masked: str, nearest: str) -> str | None:
    """The differing words of two masked texts (their first 200): what the first adds and, when few, what it lacks."""
    mine, theirs = (text.split() for text in (masked, nearest))
    known_mine, known_theirs = ({word.lower() for word in words} for words in (mine, theirs))
    mine, theirs = mine[:_WORDS_COMPARED], theirs[:_WORDS_COMPARED]
    matcher = SequenceMatcher(None, [w.lower() for w in mine], [w.lower() for w in theirs], autojunk=False)
    changes = [change for change in matcher.get_opcodes() if change[0] != "equal"]
    says = list(dict.fromkeys(p for _, i, j, _, _ in changes for p in _phrases(mine[i:j], known_theirs)))
    lacks = list(dict.fromkeys(p for _, _, _, i, j in changes for p in _phrases(theirs[i:j], known_mine)))
    said = []
    if says:
        said.append("says " + ", ".join(says[:_PHRASES]))
    if 0 < len(lacks) < _PHRASES:
        said.append("lacks " + ", ".join(lacks))
    return f"unlike the nearest normal case it {' and '.join(said)}" if said else None


def _phrases(words: Sequence[str], known: set[str]) -> Iterator[str]:
    """Runs of words, without placeholders, of which at least one stands nowhere in the other text."""
    run: list[str] = []
    for word in (*words, "<end>"):
        if word[:1] != "<":
            run.append(word)
            continue
        if any(one.lower() not in known for one in run):
            yield quote_text(" ".join(run[:_WORDS_A_PHRASE]) + (" …" if len(run) > _WORDS_A_PHRASE else ""))
        run = []


def diff_events(events: Sequence[str], nearest: Sequence[str]) -> str | None:
    """Which masked events two sessions have in different number, the greatest differences first."""
    mine, theirs = (Counter(map(kind_of_event, session)) for session in (events, nearest))
    differing = [one for one in mine | theirs if mine[one] != theirs[one]]
    differing.sort(key=lambda one: (-abs(mine[one] - theirs[one]), one))
    said = [_compared(one, mine[one], theirs[one]) for one in differing[:_PHRASES]]
    return f"unlike the nearest normal session it has {', '.join(said)}" if said else None


def _compared(event: str, mine: int, theirs: int) -> str:
    has = f"{mine} of {quote_text(event)}" if mine else f"no {quote_text(event)}"
    return f"{has} (that has {theirs or 'none'})"
