"""Verdicts to be given again: on the same text, or on another text of the same template."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.records import Verdict
from agent.core.requests import LONG, TextRequest, needs_segments
from agent.data.read_options import ReadOptions
from agent.pipeline.verdict_json import VerdictTemplate
from retrieval.casebook import SourceSnapshot
from retrieval.encoding.representation import Representation
from retrieval.lru_cache import LRUCache
from retrieval.text.masked_forms import form_of_one, holds_mail, masked_forms, shortest_of
from retrieval.text.prompt_injection import find_injections

_TEXTS, _TEMPLATES = 65_536, 16_384
# texts from which on masking them by array takes less time than one by one
_FEW = 4


class VerdictCache:
    """Verdicts of one source at one revision; a changed source gets a new cache."""

    def __init__(self, row: SourceSnapshot) -> None:
        self.row, self._representation = row, row.representation or Representation()
        self.redactor = ReadOptions.model_validate(row.reading or {}).redactor
        # where fields are compared, or prose, each text is its own template
        self._by_template = not (self._representation.field_encoder or (row.source_model or {}).get("by_text"))
        self._texts: LRUCache[VerdictTemplate] = LRUCache(_TEXTS)
        self._forms: LRUCache[VerdictTemplate] = LRUCache(_TEXTS)
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
        forms = _forms([request.text for request in requests])
        return [self._of_form(request, form) for request, form in zip(requests, forms, strict=True)]

    def _of_form(self, request: TextRequest, form: str) -> VerdictTemplate | None:
        key = request.explain, form
        if (verdict := self._forms.get(key)) is not None:
            return verdict
        verdict = self._of_masked(request)
        # patterns look ahead a number of characters: what the shortest text does not hold, no other does
        if verdict is not None and not find_injections(shortest_of(form)):
            self._forms.put(key, verdict)
        return verdict

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


def _forms(texts: Sequence[str]) -> list[str]:
    """Forms of texts that are equal only where the texts are masked alike; of many, whatever the numbers' lengths."""
    if len(texts) < _FEW:
        return [form_of_one(text) for text in texts]
    import polars as pl

    lines = pl.Series(["" if "\n" in text else text for text in texts], dtype=pl.String)
    forms = masked_forms(lines, longest=LONG)
    is_exact = holds_mail(forms) | (lines == "")
    return [
        form_of_one(text) if exact else form
        for text, form, exact in zip(texts, forms.to_list(), is_exact.to_list(), strict=True)
    ]
