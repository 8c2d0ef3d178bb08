"""The panel beside a table: one verdict, why it is so, its precedents, and its correction by one key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import get_args

from nicegui import events, ui
from nicegui.elements.mixins.text_element import TextElement

from agent.api.console.elements import for_role, notify_error, server, text
from agent.api.console.held_queue import notify_held
from agent.api.console.i18n import _
from agent.api.console.word_diff import differing
from agent.core.access import Role
from agent.core.cancellable_stream import stream_in_thread
from agent.core.errors import EXPECTED, describe
from agent.core.records import Label, Precedent, Verdict
from agent.core.terminal import truncate
from agent.explain.headline import label_in_words, reasons_in_words
from agent.pipeline.context import AppContext
from agent.pipeline.llm_explanation import sentences_for_stored_verdict
from agent.training.feedback import CorrectedCase, correct, refit_if_due, refit_source_if_due, undo_correction

# who corrects, in the history of a case
BY = "console"
_TEXT, _PRECEDENT, _FIELDS = 4_000, 600, 60
# log-odds at which a bar of a signal has its full length, if no signal is stronger
_FULL = 5.0
_KEYS: dict[str, Label] = {"n": "normal", "a": "anomalous"}
_NAMES = {
    "language": "Language model",
    "neighbours": "Precedents",
    "novelty": "Novelty",
    "fields": "Fields",
}


class VerdictPanel:
    """A verdict at a time.

    Parameters
    ----------
    on_corrected : callable
        Called with the verdict, and the label that a person gave it; None where that was taken back.
    """

    def __init__(self, on_corrected: Callable[[Verdict, str | None], None]) -> None:
        self._on_corrected = on_corrected
        self._verdict: Verdict | None = None
        self._corrected: str | None = None
        self._sentences: asyncio.Task[None] | None = None
        with ui.element("aside").classes("panel").props(f'aria-label="{_("Verdict")}" tabindex="0"') as self._box:
            self._empty()

    def _empty(self) -> None:
        with ui.element("div").classes("panel-empty"):
            text("p", _("Choose a record to see why it was judged so."))
            with ui.element("dl").classes("keys"):
                for key, meaning in (
                    ("↑ ↓", _("next record")),
                    ("n", _("it is normal")),
                    ("a", _("it is anomalous")),
                    ("u", _("undo")),
                ):
                    text("dt", key)
                    text("dd", meaning)

    def close(self) -> None:
        """Show no verdict."""
        self._stop()
        self._verdict = None
        self._box.clear()
        self._box.classes(remove="open")
        with self._box:
            self._empty()

    def show(self, verdict: Verdict, corrected: str | None) -> None:
        """Show the verdict, and the label that a person has given its record."""
        self._stop()
        self._verdict, self._corrected = verdict, corrected
        self._box.clear()
        self._box.classes("open")
        with self._box:
            self._head(verdict)
            self._record(verdict)
            self._why(verdict)
            self._signals(verdict)
            self._precedents(verdict)
            self._details(verdict)
        self._box.run_method("scrollTo", 0, 0)

    def _head(self, verdict: Verdict) -> None:
        with ui.element("div").classes("panel-head"):
            text("h2", label_in_words(verdict, _).rstrip(".。"), f"headline {verdict.label}")
            close = ui.button(icon="close", on_click=self.close).props("flat dense round size=sm")
            close.props(f'aria-label="{_("Close")}"')
        record = verdict.record
        place = ":".join(str(part) for part in (record.file, record.line) if part is not None)
        text("p", " · ".join(filter(None, [place, record.time, verdict.source])), "faint")
        if verdict.degraded:
            text("p", f"{_('Judged without')}: {'; '.join(verdict.degraded)}", "note warn")
        with ui.element("div").classes("correct"):
            for key, label in _KEYS.items():
                button = ui.button(on_click=lambda label=label: self.correct(label)).props("outline dense no-caps")
                for_role(button, Role.CORRECT)
                button.classes("chosen" if self._corrected == label else "").props(
                    f'aria-pressed="{"true" if self._corrected == label else "false"}"'
                )
                with button:
                    text("span", _("It is normal") if label == "normal" else _("It is anomalous"))
                    text("kbd", key)
        if self._corrected:
            note = _("Labelled {label} by you: it is a case of the source now, and similar records follow it.")
            with ui.element("div").classes("note labelled"):
                text("span", note.format(label=_(self._corrected)))
                undo = ui.button(on_click=self.undo).props("flat dense no-caps").classes("small")
                for_role(undo, Role.CORRECT)
                with undo:
                    text("span", _("Undo"))
                    text("kbd", "u")

    def _record(self, verdict: Verdict) -> None:
        record = verdict.record
        if record.events:
            with ui.element("ol").classes("record"):
                for event in record.events[:_FIELDS]:
                    text("li", truncate(event, _PRECEDENT))
        elif record.text:
            text("pre", truncate(record.text, _TEXT), "record").props(f'tabindex="0" aria-label="{_("Record")}"')
        if record.fields:
            with ui.element("details").classes("fields"):
                text("summary", f"{len(record.fields)} {_('fields')}")
                with ui.element("dl"):
                    for name, value in list(record.fields.items())[:_FIELDS]:
                        text("dt", truncate(name, 80))
                        text("dd", truncate("" if value is None else str(value), 200))

    def _why(self, verdict: Verdict) -> None:
        text("h3", _("Why"))
        facts = verdict.explanation.partition(": ")[2] or verdict.explanation
        with ui.element("p").classes("lead"):
            # the marks of emphasis are not in the quoted texts
            for i, piece in enumerate(" ".join(reasons_in_words(verdict, _)).split("*")):
                text("em" if i % 2 else "span", piece)
        text("p", facts or _("No reason was computed for this record."), "facts")
        if server().settings.model == "none":
            return
        words = text("p", "", "words").props('aria-live="polite"')
        button = ui.button(_("Explain in sentences")).props("flat dense no-caps").classes("small")
        button.on_click(lambda: self._explain(verdict, words, button))

    def _explain(self, verdict: Verdict, words: TextElement, button: ui.button) -> None:
        button.delete()
        self._stop()
        self._sentences = asyncio.create_task(self._stream(server().context, verdict, words))

    async def _stream(self, context: AppContext, verdict: Verdict, words: TextElement) -> None:
        with words:
            waiting = ui.spinner("dots")
            await self._sentences_into(context, verdict, words)
            waiting.delete()

    @staticmethod
    async def _sentences_into(context: AppContext, verdict: Verdict, words: TextElement) -> None:
        so_far = ""
        try:
            async for sentence in stream_in_thread(sentences_for_stored_verdict(context, verdict)):
                so_far = f"{so_far} {sentence}".strip()
                words.set_text(so_far)
            if not so_far:
                words.set_text(_("The model wrote no sentence that the facts support."))
        except EXPECTED as error:
            words.set_text(f"{_('No explanation by the language model')}: {describe(error)}")

    def _signals(self, verdict: Verdict) -> None:
        text("h3", _("Signals"))
        known = {name: value for name, value in verdict.signals.items() if value is not None}
        full = max([_FULL, *(abs(value) for value in known.values())])
        with ui.element("table").classes("signals"):
            text("caption", _("Log-odds: to the right for an anomaly, to the left against it"), "faint")
            with ui.element("tbody"):
                for name, value in verdict.signals.items():
                    with ui.element("tr"):
                        text("th", _(_NAMES.get(name, name))).props('scope="row"')
                        with ui.element("td").classes("bar-cell"):
                            if value is not None:
                                side = "for" if value > 0 else "against"
                                ui.element("span").classes(f"bar-{side}").style(f"width:{50 * abs(value) / full:.1f}%")
                        text("td", _("not used") if value is None else f"{value:+.1f}", "number")

    def _precedents(self, verdict: Verdict) -> None:
        text("h3", _("Precedents"))
        if not verdict.precedents:
            text("p", _("The casebook has no case like this."), "faint")
        for precedent in verdict.precedents:
            self._precedent(verdict, precedent)

    @staticmethod
    def _precedent(verdict: Verdict, precedent: Precedent) -> None:
        with ui.element("div").classes("precedent"):
            with ui.element("div").classes("precedent-head"):
                text("span", _(precedent.label), f"tag {precedent.label}")
                text("span", precedent.case_id, "faint")
                text("span", f"{_('similarity')} {precedent.similarity:.2f}", "faint")
            with ui.element("p").classes("precedent-text"):
                shown = truncate(precedent.text, _PRECEDENT)
                for piece, differs in differing(shown, verdict.record.text):
                    text("mark" if differs else "span", piece)

    @staticmethod
    def _details(verdict: Verdict) -> None:
        with ui.element("details").classes("fields"):
            text("summary", _("Details"))
            with ui.element("dl"):
                low, high = verdict.unsure_band
                rows = {
                    _("verdict"): verdict.id,
                    _("probability of an anomaly"): f"{verdict.probability:.4f}",
                    _("unsure between"): f"{low:.3f} – {high:.3f}",
                    _("model"): verdict.provenance.model or _("none"),
                    _("casebook version"): str(verdict.provenance.casebook_version),
                }
                for name, value in rows.items():
                    text("dt", name)
                    text("dd", value)

    def _stop(self) -> None:
        if self._sentences is not None:
            self._sentences.cancel()
            self._sentences = None

    async def correct(self, label: Label) -> None:
        """Make the record a case with this label."""
        verdict = self._verdict
        if verdict is None:
            return
        context = server().context
        try:
            case = await asyncio.to_thread(_correct, context, verdict, label)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        if case.held:
            notify_held(case.held)
            return
        self._on_corrected(verdict, label)
        # the button that was pressed goes with what the panel showed
        with self._box:
            if self._verdict is verdict:
                self.show(verdict, label)
            ui.notify(f"{_('Labelled')} {_(label)}", type="positive", timeout=1500)
        await asyncio.to_thread(refit_if_due, context, verdict.id)

    async def undo(self) -> None:
        """Take the correction back."""
        verdict = self._verdict
        if verdict is None or not self._corrected:
            return
        context = server().context
        try:
            change = await asyncio.to_thread(undo_correction, context, verdict.id, BY)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        earlier = await asyncio.to_thread(context.history.corrected_to, verdict.id)
        self._on_corrected(verdict, earlier)
        if self._verdict is verdict:
            self.show(verdict, earlier)
        await asyncio.to_thread(refit_source_if_due, context, change.source)

    async def on_key(self, event: events.KeyEventArguments) -> None:
        """Correct the verdict by a key, or close the panel."""
        modified = event.modifiers.ctrl or event.modifiers.alt or event.modifiers.meta
        if not event.action.keydown or event.action.repeat or modified or self._verdict is None:
            return
        if event.key.name == "Escape":
            self.close()
        elif event.key.name.lower() == "u":
            await self.undo()
        elif (label := _KEYS.get(event.key.name.lower())) is not None:
            assert label in get_args(Label)
            await self.correct(label)


def _correct(context: AppContext, verdict: Verdict, label: Label) -> CorrectedCase:
    # a verdict of a bulk run may not be in the history yet
    if context.history.get(verdict.id) is None:
        context.history.put([verdict.to_stored()])
    return correct(context, verdict.id, label, BY)
