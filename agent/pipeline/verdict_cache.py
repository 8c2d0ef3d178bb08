"""Verdicts to be given again: about the same text, or about another text of the same template."""

from __future__ import annotations

from agent.core.records import Verdict
from agent.core.requests import TextRequest, needs_segments
from agent.pipeline.verdict_json import VerdictTemplate
from retrieval.casebook import SourceSnapshot
from retrieval.encoding.representation import Representation
from retrieval.lru_cache import LRUCache
from retrieval.text.template_hash import template_skeleton

_TEXTS, _TEMPLATES = 65_536, 16_384


class VerdictCache:
    """Verdicts of one source as its ``row`` says it is; whoever finds another row takes another shelf."""

    def __init__(self, row: SourceSnapshot) -> None:
        self.row, self._space = row, row.space or Representation()
        # where fields are compared, or prose, each text is its own template
        self._by_template = not (self._space.field_encoder or (row.judge or {}).get("by_text"))
        self._texts: LRUCache[VerdictTemplate] = LRUCache(_TEXTS)
        self._skeletons: LRUCache[VerdictTemplate] = LRUCache(_TEXTS)
        self._templates: LRUCache[VerdictTemplate] = LRUCache(_TEMPLATES)

    def of_text(self, question: TextRequest) -> VerdictTemplate | None:
        """The verdict on this very text."""
        return self._texts.get((question.explain, question.text))

    def of_template(self, question: TextRequest) -> VerdictTemplate | None:
        """The verdict on the text's template, which holds where no case has this very text."""
        if not self._by_template:
            return None
        own = question.explain, template_skeleton(question.text)
        whole = self._skeletons.get(own)
        if whole is None and not needs_segments(question):
            whole = self._templates.get((question.explain, self._space.mask(question.text)))
            if whole is not None:
                self._skeletons.put(own, whole)
        return whole

    def keep(self, question: TextRequest, verdict: Verdict, *, held: bool) -> None:
        """Put the verdict where it is found again; ``held``: whether a case has this very text."""
        whole = VerdictTemplate.of(verdict)
        self.keep_text(question, whole)
        if self._by_template and not held and not needs_segments(question):
            self._templates.put((question.explain, self._space.mask(question.text)), whole)

    def keep_text(self, question: TextRequest, whole: VerdictTemplate) -> None:
        """Put what the template found where the text finds it."""
        self._texts.put((question.explain, question.text), whole)
