"""Verdicts given again: on the same line of a stream, on the same text, or on another text of the same template."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from agent.core.errors import EXPECTED
from agent.core.records import Verdict
from agent.core.requests import AnyRequest, TextRequest
from agent.pipeline.context import AppContext
from agent.pipeline.history_writing import Hit, answers_with_note, put_reused, try_to_keep
from agent.pipeline.redacted_requests import redacted_request
from agent.pipeline.verdict_cache import VerdictCache
from agent.pipeline.verdict_json import text_content
from retrieval.lru_cache import LRUCache
from retrieval.store.verdicts import AlikeVerdict

CountVerdicts = Callable[[Mapping[tuple[str, str], int]], None]

# how many lines of streams are cached, and how many bytes such a line may have
_LINES, _LINE_BYTES = 65_536, 2_000


class _KnownLine(NamedTuple):
    """The verdict on a line of a stream that named ``source``, or none."""

    source: str | None
    cache: VerdictCache
    verdict: Verdict
    pieces: tuple[bytes, ...]


class ReusedVerdicts:
    """The verdicts of a server that hold for further records; those that it gives again are counted and kept.

    Parameters
    ----------
    context
    count
        Called with the number of verdicts given, by source and label.
    """

    def __init__(self, context: AppContext, count: CountVerdicts) -> None:
        self._context, self._count = context, count
        self._caches: dict[str, VerdictCache] = {}
        # their verdicts are in the history, unless it was pruned
        self._lines: LRUCache[_KnownLine] = LRUCache(_LINES)

    def cache(self, source: str | None) -> VerdictCache:
        """The verdicts of a source as it is now."""
        row = self._context.source(source)
        cache = self._caches.get(row.name)
        if cache is None or cache.row.revision != row.revision:
            cache = self._caches[row.name] = VerdictCache(row)
        return cache

    def forget_lines(self) -> None:
        """Forget the lines of streams, whose verdicts the history may have lost."""
        self._lines.clear()

    def of_lines(self, lines: Sequence[bytes | None]) -> list[bytes | None]:
        """For each line, the JSON of the verdict on the same line of an earlier stream, if it is still valid."""
        cached = [self._lines.get(line) for line in lines]
        valid_caches = {
            entry: self._is_valid(*entry) for entry in {(line.source, line.cache) for line in cached if line}
        }
        valid = [line if line and valid_caches[line.source, line.cache] else None for line in cached]
        self._count(Counter((line.verdict.source, line.verdict.label) for line in valid if line))
        return [b"".join(line.pieces) if line else None for line in valid]

    def of_requests(self, requests: Sequence[AnyRequest]) -> list[bytes | None]:
        """As `of_source`, for requests of any sources, as they were sent; of an unknown source none has a verdict."""
        by_source: defaultdict[str | None, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            # others have no cached verdict, and would be redacted for nothing
            if isinstance(request, TextRequest):
                by_source[request.source].append(place)
        answers: list[bytes | None] = [None] * len(requests)
        for source, places in by_source.items():
            try:
                cache = self.cache(source)
            except EXPECTED:
                # judging the request gives the error
                continue
            redacted = [redacted_request(requests[place], cache.redactor) for place in places]
            for place, answer in zip(places, self.of_source(cache, redacted), strict=True):
                answers[place] = answer
        return answers

    def of_source(self, cache: VerdictCache, requests: Sequence[AnyRequest]) -> list[bytes | None]:
        """For each request about a source's record the JSON of its verdict, if one on its text or template is cached.

        Parameters
        ----------
        cache
            That of the source.
        requests
            With placeholders, where the source's records are redacted.
        """
        hits, new = dict[int, Hit](), dict[int, TextRequest]()
        for place, request in enumerate(requests):
            if isinstance(request, TextRequest):
                if template := cache.of_text(request):
                    hits[place] = Hit(request, template, text_content(request.text))
                else:
                    new[place] = request
        templates = cache.of_templates(list(new.values()))
        by_template = {
            place: Hit(request, template, text_content(request.text))
            for (place, request), template in zip(new.items(), templates, strict=True)
            if template is not None
        }
        contents = {hit.content.sha256 for hit in by_template.values()}
        of_cases = self._context.casebook.hashes_of_cases(cache.row.name, contents)
        for place, hit in by_template.items():
            if hit.content.sha256 not in of_cases:
                cache.put_text(hit.request, hit.template)
                hits[place] = hit
        given = dict(zip(hits, self._given(cache, list(hits.values())), strict=True))
        return [given.get(place) for place in range(len(requests))]

    def put(self, cache: VerdictCache, judged: Sequence[tuple[TextRequest, Verdict]]) -> None:
        """Cache new verdicts on texts for their texts and, unless a case has the very text, for their templates."""
        contents = [text_content(request.text).sha256 for request, _ in judged]
        of_cases = self._context.casebook.hashes_of_cases(cache.row.name, set(contents))
        for content, (request, verdict) in zip(contents, judged, strict=True):
            cache.put(request, verdict, is_case=content in of_cases)

    def _is_valid(self, source: str | None, cache: VerdictCache) -> bool:
        try:
            return self.cache(source) is cache
        except EXPECTED:
            # the line is judged again, which gives the error
            return False

    def _given(self, cache: VerdictCache, hits: Sequence[Hit]) -> list[bytes]:
        """The JSON of the verdicts on ``hits``, which are counted and put in the history."""
        if not hits:
            return []
        answers, lines = list[bytes](), list[tuple[bytes, _KnownLine]]()
        same, alike = dict[str, Verdict](), dict[str, AlikeVerdict]()
        for request, template, content in hits:
            verdict = template.verdict
            pieces = template.about(content, request.file, request.line, request.time)
            answers.append(b"".join(pieces))
            if request.raw and len(request.raw) <= _LINE_BYTES:
                lines.append((request.raw, _KnownLine(request.source, cache, verdict, pieces)))
            if (verdict_id := pieces[1].decode()) == verdict.id:
                same[verdict_id] = verdict
            else:
                body = f"{template.alike}{pieces[3].decode()}}}"
                alike[verdict_id] = AlikeVerdict(verdict_id, verdict.source, verdict.label, verdict.probability, body)
        note = try_to_keep(partial(put_reused, self._context.history, hits, same.values(), list(alike.values())))
        self._count(Counter((hit.template.verdict.source, hit.template.verdict.label) for hit in hits))
        if note is not None:
            # what is not kept is tried again when the line comes again
            return list(answers_with_note(hits, note))
        for raw, known in lines:
            self._lines.put(raw, known)
        return answers
