"""Verdicts to be given again: about the same text, or about another text of the same template."""

from __future__ import annotations

from agent.core.records import Verdict
from agent.core.requests import TextQuestion, needs_pieces
from agent.pipeline.verdict_json import Whole
from retrieval.casebook import SourceRow
from retrieval.encoding.representation import Space
from retrieval.lru_cache import Memo
from retrieval.text.template_hash import bones

_TEXTS, _TEMPLATES = 65_536, 16_384


class Shelf:
    """Verdicts of one source as its ``row`` says it is; whoever finds another row takes another shelf."""

    def __init__(self, row: SourceRow) -> None:
        self.row, self._space = row, row.space or Space()
        # where fields are compared, or prose, each text is its own template
        self._by_template = not (self._space.axes or (row.judge or {}).get("by_text"))
        self._texts: Memo[Whole] = Memo(_TEXTS)
        self._skeletons: Memo[Whole] = Memo(_TEXTS)
        self._templates: Memo[Whole] = Memo(_TEMPLATES)

    def of_text(self, question: TextQuestion) -> Whole | None:
        """The verdict on this very text."""
        return self._texts.get((question.explain, question.text))

    def of_template(self, question: TextQuestion) -> Whole | None:
        """The verdict on the text's template, which holds where no case has this very text."""
        if not self._by_template:
            return None
        own = question.explain, bones(question.text)
        whole = self._skeletons.get(own)
        if whole is None and not needs_pieces(question):
            whole = self._templates.get((question.explain, self._space.masking(question.text)))
            if whole is not None:
                self._skeletons.put(own, whole)
        return whole

    def keep(self, question: TextQuestion, verdict: Verdict, *, held: bool) -> None:
        """Put the verdict where it is found again; ``held``: whether a case has this very text."""
        whole = Whole.of(verdict)
        self.keep_text(question, whole)
        if self._by_template and not held and not needs_pieces(question):
            self._templates.put((question.explain, self._space.masking(question.text)), whole)

    def keep_text(self, question: TextQuestion, whole: Whole) -> None:
        """Put what the template found where the text finds it."""
        self._texts.put((question.explain, question.text), whole)
