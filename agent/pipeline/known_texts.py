"""Whole texts of a source's cases inside of records: what is written around a known anomaly does not hide it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from agent.pipeline.context import AppContext
from agent.pipeline.state import JudgingState, Source
from retrieval.encoding.representation import RecordLike
from retrieval.lru_cache import LRUCache
from retrieval.store.cases import CaseQueries
from retrieval.text.prompt_injection import find_injections, plain

# words and letters, without placeholders, from which on a text is hardly a part of another by chance
_FEWEST_WORDS, _FEWEST_LETTERS = 3, 12
_WORD = re.compile(r"(?<![\w<])[^\W\d_]{2,}(?![\w>])")
_CACHED = 16


class KnownTexts:
    """The masked texts of cases, whole: with what is taken for a prompt injection."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._anomalous: LRUCache[tuple[int, dict[str, str]]] = LRUCache(_CACHED)

    def is_normal(self, source: Source, record: RecordLike) -> bool:
        """Whether all cases that have a record's text, and there are some, are normal."""
        representation = source.representation
        if representation.field_encoder is not None or record.fields or record.events:
            return False
        whole = _masked(source, record)
        cases = self._context.casebook.cases(source.row.name, [representation.key(record, "")])
        labels = {case.label for case in cases if _masked(source, case) == whole}
        return labels == {"normal"}

    def anomalous_part(self, state: JudgingState) -> str | None:
        """The text of an anomalous case that a record holds beside others; None if it holds none, or is known itself.

        All cases are looked for in a record with a prompt injection, which changes what is near to it, and the
        precedents in others.
        """
        source, record = state.source, state.record
        if source.representation.field_encoder is not None or record.fields or record.events:
            return None
        is_injected = bool(find_injections(record.text))
        if state.has_known_template and not is_injected:
            return None
        whole = state.full_masked
        if is_injected:
            return _longest_inside(whole, self._of_source(source).items())
        near = (found.case for found in state.retrieved.nearest if found.case.label == "anomalous")
        return _longest_inside(whole, ((_masked(source, case), case.text) for case in near))

    def _of_source(self, source: Source) -> dict[str, str]:
        """Texts of the anomalous cases of templates that have no others, by their masked forms."""
        name, revision = source.row.name, source.row.revision
        cached = self._anomalous.get(name)
        if cached is None or cached[0] != revision:
            queries, found = CaseQueries(self._context.casebook.engine), dict[str, str]()
            mixed = queries.mixed_keys(name)
            for key, text in queries.texts_by_key(name, "anomalous"):
                if key not in mixed:
                    found[source.representation.mask(plain(text))] = text
            cached = revision, found
            self._anomalous.put(name, cached)
        return cached[1]


def _masked(source: Source, record: RecordLike) -> str:
    return source.representation.mask(source.representation.full_text(record))


def _longest_inside(whole: str, known: Iterable[tuple[str, str]]) -> str | None:
    """The text with the longest masked form that stands in ``whole`` beside other words."""
    inside = [(len(masked), text) for masked, text in known if _is_part(masked, whole)]
    return max(inside)[1] if inside else None


def _is_part(masked: str, whole: str) -> bool:
    place = whole.find(masked)
    if place < 0 or masked == whole:
        return False
    words = _WORD.findall(masked)
    before, after = whole[place - 1 : place], whole[place + len(masked) : place + len(masked) + 1]
    is_long = len(words) >= _FEWEST_WORDS and sum(map(len, words)) >= _FEWEST_LETTERS
    return is_long and not before.isalnum() and not after.isalnum()
