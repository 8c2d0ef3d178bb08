"""Masked texts to patterns: words that vary as users, hosts and names do become placeholders as well.

Masking replaces what looks like a number, a time or an address. Two masked texts are of one pattern if they differ only
in places where at least three values alternate, or in identifiers, and the words that they share say enough.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from agent.bulk.unlabelled.severity import error_words

WILDCARD = "<*>"
_PLACEHOLDER = re.compile(r"<(?:time|date|uuid|email|ip|hex|n|id|\*)>")
_DAY = re.compile(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? (?=<time>|<date>)")
_DELIMITER = re.compile(r"([\s=(),;|\[\]\"'])")
_IDENTIFIER = re.compile(r".*<.*|.*[\d@/\\~].*|.*\w[._-]\w.*|")
_WORD = re.compile(r"[^\W\d_]{2,}")
# most places that vary in a pattern, and places of a text; values that show that a place varies
_MOST_VARIABLE, _MOST_PLACES, _ALTERNATIVES, _CROSSED_ALTERNATIVES, _FEW_VALUES = 6, 120, 3, 8, 30
# most patterns for which two places at a time are tried, and places of a text then
_MOST_FOR_PAIRS, _MOST_PLACES_FOR_PAIRS = 4_000, 40
# patterns from which on places with many values are looked for first, and values that are many
_MANY, _MANY_VALUES = 2_000, 100
# places at the beginning of a text that may hold a header
_HEADER_PLACES = 8


@dataclass
class Pattern:
    """Masked texts that differ in their parameters only.

    Attributes
    ----------
    tokens : tuple of str
        Its words, the delimiters between them included.
    members : list of int
        Indices of the masked texts.
    values : dict of int to list of str
        By place of a wildcard: the word that each member has there.
    """

    tokens: tuple[str, ...]
    members: list[int]
    values: dict[int, list[str]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The pattern with its placeholders."""
        return "".join(self.tokens).strip()

    def name(self, place: int) -> str:
        """What a place is called: the key or the word before it."""
        before = [token for token in self.tokens[:place] if token and not _DELIMITER.fullmatch(token)]
        words = [word for token in before[-1:] for word in _WORD.findall(token)]
        return words[-1] if words else "value"


def find_patterns(masked: Sequence[str]) -> list[Pattern]:
    """Group masked texts by patterns, in the order in which these are met."""
    by_tokens: dict[tuple[str, ...], Pattern] = {}
    for index, text in enumerate(masked):
        tokens = tuple(_DELIMITER.split(_DAY.sub("", text)))
        by_tokens.setdefault(tokens, Pattern(tokens, [])).members.append(index)
    buckets: dict[tuple[object, ...], list[Pattern]] = defaultdict(list)
    for pattern in by_tokens.values():
        buckets[(len(pattern.tokens), pattern.tokens[1::2])].append(pattern)
    common = _common_words(buckets.values())
    found = [pattern for bucket in buckets.values() for pattern in _merge_bucket(bucket, common)]
    return sorted(found, key=lambda pattern: pattern.members[0])


def _common_words(buckets: Iterable[Sequence[Pattern]]) -> frozenset[str]:
    """Words that texts of most shapes begin with, such as the name of the host: they distinguish nothing."""
    counts: dict[tuple[int, str], int] = defaultdict(int)
    shapes = 0
    for bucket in buckets:
        shapes += 1
        for place_and_word in {item for pattern in bucket for item in enumerate(pattern.tokens[:_HEADER_PLACES])}:
            counts[place_and_word] += 1
    return frozenset(word for (_, word), count in counts.items() if count * 2 > shapes > 3)


def _merge_bucket(patterns: list[Pattern], common: frozenset[str]) -> list[Pattern]:
    if len(patterns) < 2 or len(patterns[0].tokens) > _MOST_PLACES:
        return patterns
    places = range(0, len(patterns[0].tokens), 2)
    if len(patterns) >= _MANY:
        patterns = _merge_many(patterns, places, common)
    for size in (1, 2):
        changed = True
        while changed and len(patterns) > 1:
            pairs_allowed = len(patterns) <= _MOST_FOR_PAIRS and len(places) <= _MOST_PLACES_FOR_PAIRS
            if size == 2 and not pairs_allowed:
                break
            merged = _merge_at(patterns, list(combinations(places, size)), common)
            changed, patterns = len(merged) < len(patterns), merged
    return patterns


def _merge_many(patterns: list[Pattern], places: range, common: frozenset[str]) -> list[Pattern]:
    """Of very many patterns, merge those that are equal but for the places with very many values."""
    varying = tuple(place for place in places if len({pattern.tokens[place] for pattern in patterns}) > _MANY_VALUES)
    sets: dict[tuple[str, ...], list[Pattern]] = defaultdict(list)
    for pattern in patterns:
        sets[_blanked(pattern.tokens, varying)].append(pattern)
    merged = list[Pattern]()
    for tokens, members in sets.items():
        if len(members) > _MANY_VALUES and _may_merge(members, varying, tokens, common):
            merged.append(_merged(members, varying, tokens))
        else:
            merged += members
    return merged


def _merge_at(patterns: list[Pattern], choices: list[tuple[int, ...]], common: frozenset[str]) -> list[Pattern]:
    """Merge the largest sets of patterns that are equal but for the places of one choice."""
    sets: dict[tuple[tuple[int, ...], int], list[int]] = defaultdict(list)
    for number, pattern in enumerate(patterns):
        # sums of hashes: what is equal without some places is found in one step for each choice of places
        hashes = [hash((place, token)) for place, token in enumerate(pattern.tokens)]
        total = sum(hashes)
        for choice in choices:
            sets[choice, total - sum(hashes[place] for place in choice)].append(number)
    several = [(choice, numbers) for (choice, _), numbers in sets.items() if len(numbers) > 1]
    used, merged = set[int](), list[Pattern]()
    for choice, numbers in sorted(several, key=lambda item: (-len(item[1]), item)):
        members = [patterns[number] for number in numbers if number not in used]
        if len(members) > 1:
            tokens = _blanked(members[0].tokens, choice)
            if _may_merge(members, choice, tokens, common):
                used.update(numbers)
                merged.append(_merged(members, choice, tokens))
    return [*merged, *(pattern for number, pattern in enumerate(patterns) if number not in used)]


def _blanked(tokens: tuple[str, ...], choice: tuple[int, ...]) -> tuple[str, ...]:
    changed = list(tokens)
    for place in choice:
        changed[place] = WILDCARD
    return tuple(changed)


def _may_merge(
    members: list[Pattern], choice: tuple[int, ...], tokens: tuple[str, ...], common: frozenset[str]
) -> bool:
    words = [word for token in tokens if token not in common for word in _WORD.findall(_PLACEHOLDER.sub(" ", token))]
    if len(words) < 2 or tokens.count(WILDCARD) > _MOST_VARIABLE:
        return False
    for place in choice:
        values = {member.tokens[place] for member in members}
        if len(values) < 2:
            return False
        if any(map(str.isdigit, values)):
            # numbers that masking kept are states
            return False
        if all(_IDENTIFIER.fullmatch(value) for value in values):
            continue
        # few words that each go with many names ("started", "stopped") are not names themselves
        crossed = all(member.values for member in members)
        if len(values) < (_CROSSED_ALTERNATIVES if crossed else _ALTERNATIVES) and WILDCARD not in values:
            return False
        if len(values) <= _FEW_VALUES and len({error_words(value) > 0 for value in values}) > 1:
            return False
    return True


def _merged(members: list[Pattern], choice: tuple[int, ...], tokens: tuple[str, ...]) -> Pattern:
    places = sorted({*choice, *(place for member in members for place in member.values)})
    values = {place: [value for member in members for value in _values_at(member, place)] for place in places}
    return Pattern(tokens, [index for member in members for index in member.members], values)


def _values_at(member: Pattern, place: int) -> Iterator[str]:
    yield from member.values.get(place) or [member.tokens[place]] * len(member.members)
