"""Verdicts to be given again: on the same text, or on another text of the same template."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.records import Verdict
from agent.core.requests import TextRequest, needs_segments
from agent.pipeline.verdict_json import VerdictTemplate
from retrieval.casebook import SourceSnapshot
from retrieval.encoding.representation import Representation
from retrieval.lru_cache import LRUCache
from retrieval.text.canonical_lines import canonical_lines
from retrieval.text.template_hash import template_skeleton

_TEXTS, _TEMPLATES = 65_536, 16_384
# texts from which on rewriting them by array takes less time than masking them one by one
_FEW = 4


class VerdictCache:
    """Verdicts of one source at one revision; a changed source gets a new cache."""

    def __init__(self, row: SourceSnapshot) -> None:
        self.row, self._representation = row, row.representation or Representation()
        # where fields are compared, or prose, each text is its own template
        self._by_template = not (self._representation.field_encoder or (row.source_model or {}).get("by_text"))
        self._texts: LRUCache[VerdictTemplate] = LRUCache(_TEXTS)
        self._skeletons: LRUCache[VerdictTemplate] = LRUCache(_TEXTS)
        self._templates: LRUCache[VerdictTemplate] = LRUCache(_TEMPLATES)

    def of_text(self, request: TextRequest) -> VerdictTemplate | None:
        """The verdict on this very text."""
        return self._texts.get((request.explain, request.text))

    def of_templates(self, requests: Sequence[TextRequest]) -> list[VerdictTemplate | None]:
        """For each request the verdict on its text's template; it holds for the text unless a case has this text."""
        if not self._by_template:
            return [None] * len(requests)
        if self._representation.kept:
            # skeletons do not distinguish numbers, of which some distinguish templates here
            return [self._of_masked(request) for request in requests]
        verdicts = [self._skeletons.get((request.explain, template_skeleton(request.text))) for request in requests]
        missing = [place for place, verdict in enumerate(verdicts) if verdict is None]
        for place, form in zip(missing, _canonical([requests[place].text for place in missing]), strict=True):
            request = requests[place]
            verdict = self._skeletons.get((request.explain, form))
            if verdict is None and (verdict := self._of_masked(request)) is not None:
                self._skeletons.put((request.explain, form), verdict)
            verdicts[place] = verdict
        return verdicts

    def _of_masked(self, request: TextRequest) -> VerdictTemplate | None:
        if needs_segments(request):
            return None
        return self._templates.get((request.explain, self._representation.mask(request.text)))

    def put(self, request: TextRequest, verdict: Verdict, *, is_case: bool) -> None:
        """Keep a verdict for its text and, unless a case has this very text, for its template."""
        template = VerdictTemplate.of(verdict)
        self.put_text(request, template)
        if self._by_template and not is_case and not needs_segments(request):
            self._templates.put((request.explain, self._representation.mask(request.text)), template)

    def put_text(self, request: TextRequest, template: VerdictTemplate) -> None:
        """Keep a verdict that was found by template for the text as well."""
        self._texts.put((request.explain, request.text), template)


def _canonical(texts: Sequence[str]) -> list[str]:
    """Forms of texts that are equal only where the texts are masked alike; of many, whatever the numbers' lengths."""
    lines = [text for text in texts if "\n" not in text]
    if len(lines) < _FEW:
        return [template_skeleton(text) for text in texts]
    rewritten = canonical_lines("".join(f"{line}\n" for line in lines).encode()).decode()
    forms = iter(rewritten.split("\n"))
    return [template_skeleton(text) if "\n" in text else next(forms) for text in texts]
