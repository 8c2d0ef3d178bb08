"""What a record has that its nearest normal case lacks, and the reverse, in a few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from retrieval.text.masking import kind_of_event

_WORDS_COMPARED = 200
_PHRASES = 3
_WORDS_PER_PHRASE = 6
_LONGEST = 60


def quote_text(text: str) -> str:
    """A text on one line, in quotation marks, at most 60 characters of it."""
    text = " ".join(text.split())
    return f"“{text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'}”"


def diff_words(masked: str, nearest: str) -> str | None:
    """The words (of the first 200) that a masked text adds to the ``nearest`` and, when few, those it lacks."""
    words, other_words = (text.split() for text in (masked, nearest))
    vocabulary, other_vocabulary = ({word.lower() for word in text} for text in (words, other_words))
    words, other_words = words[:_WORDS_COMPARED], other_words[:_WORDS_COMPARED]
    matcher = SequenceMatcher(None, [w.lower() for w in words], [w.lower() for w in other_words], autojunk=False)
    changes = [change for change in matcher.get_opcodes() if change[0] != "equal"]
    added = list(dict.fromkeys(p for _, i, j, _, _ in changes for p in _phrases(words[i:j], other_vocabulary)))
    lacking = list(dict.fromkeys(p for _, _, _, i, j in changes for p in _phrases(other_words[i:j], vocabulary)))
    differences = []
    if added:
        differences.append("says " + ", ".join(added[:_PHRASES]))
    if 0 < len(lacking) < _PHRASES:
        differences.append("lacks " + ", ".join(lacking))
    return f"unlike the nearest normal case it {' and '.join(differences)}" if differences else None


def _phrases(words: Sequence[str], vocabulary: set[str]) -> Iterator[str]:
    """Runs of words, without placeholders, with at least one word that is not in the ``vocabulary``."""
    run: list[str] = []
    for word in (*words, "<end>"):
        if word[:1] != "<":
            run.append(word)
            continue
        if any(part.lower() not in vocabulary for part in run):
            yield quote_text(" ".join(run[:_WORDS_PER_PHRASE]) + (" …" if len(run) > _WORDS_PER_PHRASE else ""))
        run = []


def new_phrases(masked: str, others: Sequence[str]) -> list[str]:
    """Runs of words of a masked text that none of the ``others`` has, at most three of at most six words."""
    vocabulary = {word.lower() for other in others for word in other.split()}
    runs, run = list[str](), list[str]()
    for word in [*masked.split()[:_WORDS_COMPARED], "<end>"]:
        if word[:1] != "<" and word.lower() not in vocabulary:
            run.append(word)
        elif run:
            runs.append(" ".join(run[:_WORDS_PER_PHRASE]) + (" …" if len(run) > _WORDS_PER_PHRASE else ""))
            run = []
    return list(dict.fromkeys(runs))[:_PHRASES]


def diff_events(events: Sequence[str], nearest: Sequence[str]) -> str | None:
    """Which masked events two sessions have in different number, the greatest differences first."""
    counts, other = (Counter(map(kind_of_event, session)) for session in (events, nearest))
    differing = [event for event in counts | other if counts[event] != other[event]]
    differing.sort(key=lambda event: (-abs(counts[event] - other[event]), event))
    differences = [_compared(event, counts[event], other[event]) for event in differing[:_PHRASES]]
    return f"unlike the nearest normal session it has {', '.join(differences)}" if differences else None


def _compared(event: str, count: int, other: int) -> str:
    has = f"{count} of {quote_text(event)}" if count else f"no {quote_text(event)}"
    return f"{has} (that has {other or 'none'})"
