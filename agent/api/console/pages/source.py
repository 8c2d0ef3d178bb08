"""The page *Source*: its brief, how well it judges, drift, what to review, and a new fit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import quote

from nicegui import ui

from agent.api.console.elements import for_role, notify_error, server, show_no_source, text
from agent.api.console.frame import page_frame
from agent.api.console.held_queue import HeldQueue
from agent.api.console.i18n import _
from agent.api.console.source_parts import BriefEditor, Figures, ReviewQueue
from agent.core.access import Role, require
from agent.core.errors import EXPECTED, Forbidden, describe
from agent.core.numerics import expit
from agent.scoring.fusion import SourceModel
from agent.training.challenge import Challenge, challenge
from agent.training.drift_findings import Drift
from agent.training.proposal import Proposals, propose
from agent.training.refit import earlier_fit, is_outdated, rollback


def source_page(source: str = "") -> None:
    """Show one source."""
    with page_frame(_("Source")):
        names = server().context.casebook.names()
        if not names:
            show_no_source()
            return
        SourceView(names, source if source in names else names[0])


class SourceView:
    """All about one source."""

    def __init__(self, names: list[str], source: str) -> None:
        self._source = source
        with ui.element("div").classes("toolbar"):
            chosen = ui.select(names, value=source, label=_("Source")).props("outlined dense options-dense")
            chosen.on_value_change(lambda event: ui.navigate.to(f"/source?source={quote(event.value)}"))
            text("a", _("Casebook")).props(f'href="/casebook?source={quote(source)}"').classes("button-link")
            text("a", _("Judge")).props(f'href="/?source={quote(source)}"').classes("button-link")
        with ui.element("div").classes("cards"):
            with ui.element("div").classes("stack"):
                with _card(_("Model")):
                    self._model = ui.element("div")
                with _card(_("How good are the probabilities?")):
                    Figures(source)
                with _card(_("Drift"), _("recent records against the cases")):
                    self._drift = ui.element("div")
            with ui.element("div").classes("stack"):
                with _card(_("Brief")):
                    BriefEditor(source)
                with _card(_("Review"), _("the verdicts whose correction improves the source most")):
                    self._review = ReviewQueue(source)
                with _card(_("Waiting for a second person"), _("corrections that oppose what others labelled")):
                    self._held = HeldQueue(source)
        self._show_model()
        ui.timer(0, self._load, once=True)

    def _show_model(self) -> None:
        row = server().context.source(self._source)
        model = SourceModel.of(row.source_model, row.counts)
        self._model.clear()
        with self._model:
            rows = {
                _("cases"): f"{row.counts['normal']:,} {_('normal')}, {row.counts['anomalous']:,} {_('anomalous')}",
                _("casebook version"): str(row.version),
                _("fitted at version"): str(model.fitted_on) if row.source_model else _("not fitted"),
                _("threshold chosen for"): model.objective,
                _("anomalous from"): f"{expit(model.without_llm.threshold):.0%}",
            }
            with ui.element("div").classes("fields"), ui.element("dl"):
                for name, value in rows.items():
                    text("dt", name)
                    text("dd", value)
                for name, weight in model.without_llm.weights.items():
                    text("dt", f"{_('weight of')} {name}")
                    text("dd", f"{weight:.2f}")
            for note in filter(None, [model.language_note, *model.notes]):
                text("p", note, "note")
            if model.restored_on:
                note = _("You went back to this fit at casebook version {n}.")
                text("p", note.format(n=model.restored_on), "note")
            if row.source_model is not None and is_outdated(row):
                text("p", _("Cases have changed since the last fit."), "note warn")
            with ui.element("div").classes("actions"):
                button = ui.button(_("Fit again")).props("outline dense no-caps").mark("refit")
                for_role(button, Role.ADMIN)
                button.on_click(lambda: self._refit(button, challenge, _("Fitted again")))
                if (earlier := earlier_fit(server().context, self._source)) is not None:
                    back = ui.button(_("Back to the fit before")).props("flat dense no-caps").mark("rollback")
                    for_role(back, Role.ADMIN)
                    back.on_click(lambda: self._refit(back, rollback, _("The fit before is used again")))
                    before = SourceModel.from_json(earlier.source_model)
                    threshold = f"{expit(before.without_llm.threshold):.0%}"
                    line = _("of casebook version {n}, anomalous from {threshold}")
                    text("span", line.format(n=before.fitted_on, threshold=threshold), "faint")
                self._progress = text("span", "", "faint").props('role="status"')

    async def _refit(self, button: ui.button, fit: Callable[..., object], done: str) -> None:
        context, state = server().context, [""]
        try:
            require(Role.ADMIN)
        except Forbidden as error:
            notify_error(describe(error))
            return
        button.disable()

        def note(step: str, done: int, total: int) -> None:
            state[0] = f"{step} {done:,} / {total:,}" if total else step

        timer = ui.timer(0.4, lambda: self._progress.set_text(state[0]))
        try:
            result = await asyncio.to_thread(fit, context, self._source, progress=note)
            if isinstance(result, Challenge) and result.decision == "kept":
                ui.notify(_("The present fit stays: the new one is worse on the newest cases."), type="warning")
            else:
                ui.notify(done, type="positive", timeout=1500)
        except EXPECTED as error:
            notify_error(describe(error))
        finally:
            timer.cancel()
        self._show_model()

    async def _load(self) -> None:
        context = server().context
        try:
            await self._review.load()
            await self._held.load()
            require(Role.CORRECT)
            found = await asyncio.to_thread(propose, context, self._source, labels=0)
            with self._drift:
                _show_drift(found.drift)
                _show_proposals(found)
        except Forbidden as error:
            with self._drift:
                text("p", describe(error), "note")
        except EXPECTED as error:
            notify_error(describe(error))


def _card(title: str, subtitle: str = "") -> ui.element:
    card = ui.element("section").classes("card").props(f'aria-label="{title}"')
    with card:
        text("h2", title)
        if subtitle:
            text("p", subtitle, "faint")
    return card


def _share(value: float | None, expected: float | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.0%}" + (f" ({_('expected')} {expected:.0%})" if expected is not None else "")


def _show_drift(drift: Drift) -> None:
    if not drift.records:
        text("p", _("No record was judged yet."), "faint")
        return
    rows = {
        _("records"): f"{drift.records:,}",
        _("new templates"): _share(drift.novel_share, drift.novel_expected),
        _("unsure"): _share(drift.unsure_share),
        _("anomalous"): _share(drift.anomalous_share, drift.anomalous_expected),
        _("corrected by people"): f"{drift.corrected:,}",
        _("contradicted"): _share(drift.contradicted_share),
    }
    with ui.element("div").classes("fields"), ui.element("dl"):
        for name, value in rows.items():
            text("dt", name)
            text("dd", value)
        for name, psi in list(drift.field_psi.items())[:8]:
            text("dt", f"{_('shift of')} {name}")
            text("dd", f"{psi:.2f}")
    for finding in drift.findings:
        text("p", finding, "note warn")


def _show_proposals(found: Proposals) -> None:
    """What is proposed, and why; a new fit has its button, and *Review* has the records to label."""
    actions = {"refit": _("Fit again"), "label": _("Label some records"), "tune": _("Tune a classifier")}
    for proposal in found.proposals:
        if proposal.action in actions:
            reasons = [reason for reason in proposal.reasons if reason not in found.drift.findings]
            text("p", ": ".join([f"{_('Proposed')}: {actions[proposal.action]}", *reasons]), "note")
    for note in found.notes:
        text("p", note, "note warn")
    if found.action == "nothing" and found.drift.records:
        text("p", _("Nothing to act on."), "faint")
