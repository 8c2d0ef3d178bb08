"""Parts of the page *Source*: the brief and its improvement, the review queue, the check against a labelled file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

from nicegui import events, ui

from agent.api.console.curves import calibration, risk_by_coverage
from agent.api.console.elements import for_role, notify_error, server, text
from agent.api.console.held_queue import notify_held
from agent.api.console.i18n import _
from agent.api.console.intake import file_button
from agent.api.console.jobs import Upload, UploadedFiles
from agent.api.console.verdict_panel import BY
from agent.api.console.word_diff import differing
from agent.core.access import Role, require
from agent.core.errors import EXPECTED, UsageError, describe
from agent.core.records import LABELS, Label, Verdict
from agent.core.terminal import truncate
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.explain.headline import percent
from agent.pipeline.context import AppContext
from agent.pipeline.history import find_verdicts
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.active_learning import Candidate, select_for_review
from agent.training.brief import Draft, draft_brief
from agent.training.feedback import correct, refit_if_due

_CORRECTIONS, _FEWEST, _REVIEWED, _ERRORS, _TEXT = 10_000, 20, 10, 50, 240
_BRIEF_CHARS = 4_000


class BriefEditor:
    """The brief as text, and a draft of the language model as a difference to it."""

    def __init__(self, source: str) -> None:
        self._source = source
        brief = server().context.source(source).brief
        self._area = ui.textarea(value=brief).props(f"outlined autogrow maxlength={_BRIEF_CHARS}").classes("full")
        self._area.props(f'aria-label="{_("What is normal, what is anomalous")}"').mark("brief")
        with ui.element("div").classes("actions"):
            save = ui.button(_("Save"), on_click=self._save).props("unelevated dense no-caps").mark("save-brief")
            for_role(save, Role.ADMIN)
            if server().settings.model != "none":
                self._improve = ui.button(_("Improve"), on_click=self._draft).props("outline dense no-caps")
                for_role(self._improve, Role.ADMIN)
        self._proposal = ui.element("div")

    async def _save(self) -> None:
        brief, context = (self._area.value or "").strip(), server().context
        try:
            require(Role.ADMIN)
            await asyncio.to_thread(context.casebook.set, self._source, brief=brief, brief_by="person")
        except EXPECTED as error:
            notify_error(describe(error))
            return
        self._proposal.clear()
        ui.notify(_("Saved"), type="positive", timeout=1500)

    async def _draft(self) -> None:
        context = server().context
        self._improve.disable()

        def draft() -> Draft:
            require(Role.ADMIN)
            return draft_brief(context.language_detector().model, context.casebook, self._source)

        try:
            made = await asyncio.to_thread(draft)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        finally:
            self._improve.enable()
            for_role(self._improve, Role.ADMIN)
        self._proposal.clear()
        with self._proposal:
            if made.problem:
                text("p", f"{_('The draft of the language model is not usable')}: {made.problem}", "note warn")
                return
            self._show(made.text)

    def _show(self, draft: str) -> None:
        now = self._area.value or ""
        with ui.element("p").classes("note"):
            for piece, differs in differing(draft, now):
                text("ins" if differs else "span", piece)
        gone = [piece.strip() for piece, differs in differing(now, draft) if differs]
        if gone:
            with ui.element("p").classes("faint"):
                text("span", f"{_('left out')}: ")
                text("del", " … ".join(gone))
        ui.button(_("Take it over"), on_click=partial(self._area.set_value, draft)).props("outline dense no-caps")


class ReviewQueue:
    """Verdicts to correct or to confirm, each by a click."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._box = ui.element("div").classes("queue")

    async def load(self) -> None:
        """Select them anew."""
        candidates = await asyncio.to_thread(select_for_review, server().context, self._source, _REVIEWED)
        self._box.clear()
        with self._box:
            if not candidates:
                text("p", _("Nothing to review: judge some records first."), "faint")
            for candidate in candidates:
                self._candidate(candidate)

    def _candidate(self, candidate: Candidate) -> None:
        with ui.element("div").classes("queue-row") as row:
            with ui.element("div").classes("queue-text"):
                text("code", truncate(candidate.record.text or str(candidate.record.fields), _TEXT))
                alike = f", {candidate.alike} ×" if candidate.alike > 1 else ""
                text("span", f"{_(candidate.label)}, {percent(candidate.probability)}{alike}", "faint")
            for label in LABELS:
                button = ui.button(_(label), on_click=partial(self._correct, candidate.id, label, row))
                for_role(button.props("outline dense no-caps"), Role.CORRECT)

    async def _correct(self, verdict_id: str, label: Label, row: ui.element) -> None:
        context = server().context
        try:
            case = await asyncio.to_thread(correct, context, verdict_id, label, BY)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        if case.held:
            notify_held(case.held)
            return
        row.delete()
        await asyncio.to_thread(refit_if_due, context, verdict_id)


@dataclass(frozen=True)
class _Checked:
    """Verdicts with the right labels."""

    verdicts: list[Verdict]
    anomalous: list[bool]
    origin: str


class Figures:
    """Calibration and error by coverage, from people's corrections or from a labelled file."""

    def __init__(self, source: str) -> None:
        self._source = source
        note = _("Drop a labelled file of this source that it has not learned, or see its corrected verdicts.")
        text("p", note, "faint")
        with ui.element("div").classes("actions").props("data-drop"):
            file_button(_("Choose a labelled file"))
            ui.button(_("Corrected verdicts"), on_click=self._by_corrections).props("outline dense no-caps")
        text("p", "", "faint").props('data-upload-status role="status"')
        self._box = ui.element("div")
        ui.on("uploaded", self._on_upload)

    async def _on_upload(self, event: events.GenericEventArguments) -> None:
        sent = event.args if isinstance(event.args, dict) else {}
        upload = server().jobs.upload(str(sent.get("upload", "")))
        if upload is not None:
            await self._compute(partial(_check_file, server().context, self._source, upload))

    async def _by_corrections(self) -> None:
        await self._compute(partial(_corrections, server().context, self._source, _("corrected by people")))

    async def _compute(self, check: partial[_Checked]) -> None:
        self._box.clear()
        with self._box:
            ui.spinner("dots", size="lg")
        try:
            require(Role.JUDGE)
            checked = await asyncio.to_thread(check)
        except EXPECTED as error:
            self._box.clear()
            with self._box:
                text("p", describe(error), "note warn").props('role="alert"')
            return
        self._box.clear()
        with self._box:
            self._show(checked)

    def _show(self, checked: _Checked) -> None:
        verdicts, anomalous = checked.verdicts, checked.anomalous
        if len(verdicts) < _FEWEST:
            line = _("{n} records with a known label are too few for a curve: at least {least} are needed.")
            text("p", line.format(n=len(verdicts), least=_FEWEST), "note")
            return
        decided = [(v, y) for v, y in zip(verdicts, anomalous, strict=True) if v.label != "unsure"]
        wrong = [(v, y) for v, y in decided if (v.label == "anomalous") != y]
        line = _("{n} records ({origin}): {coverage} decided, {error} of these wrong.")
        error = f"{len(wrong) / len(decided):.1%}" if decided else "–"
        coverage = f"{len(decided) / len(verdicts):.0%}"
        text("p", line.format(n=f"{len(verdicts):,}", origin=checked.origin, coverage=coverage, error=error), "strong")
        with ui.element("div").classes("charts"):
            points = [[p.predicted, p.observed] for p in calibration([v.probability for v in verdicts], anomalous)]
            _line(_("Calibration"), points, _("probability"), _("share anomalous"), diagonal=True)
            curve = [list(point) for point in risk_by_coverage(verdicts, anomalous)]
            _line(_("Error by coverage"), curve, _("share decided"), _("error"), diagonal=False)
        if wrong:
            with ui.element("details").classes("fields"):
                text("summary", f"{len(wrong)} {_('wrong verdicts')}")
                for verdict, is_anomalous in wrong[:_ERRORS]:
                    right = _("anomalous") if is_anomalous else _("normal")
                    shown = truncate(verdict.record.text or str(verdict.record.fields), _TEXT)
                    text("p", f"{_(verdict.label)}, {percent(verdict.probability)}; {_('right')}: {right}: {shown}")


def _line(title: str, points: list[list[float]], x: str, y: str, *, diagonal: bool) -> None:
    axis: dict[str, Any] = {"type": "value", "min": 0, "nameLocation": "middle", "axisLabel": {"color": "#7f8f97"}}
    series: list[dict[str, Any]] = [{"type": "line", "data": points, "symbolSize": 6, "color": "#2d8aa5"}]
    if diagonal:
        line = {"type": "line", "data": [[0, 0], [1, 1]], "symbol": "none", "silent": True, "color": "#8a979e"}
        series.append({**line, "lineStyle": {"type": "dashed", "width": 1}})
    options = {
        "title": {"text": title, "textStyle": {"fontSize": 13, "color": "#7f8f97"}},
        "grid": {"left": 55, "right": 15, "top": 35, "bottom": 42},
        "xAxis": {**axis, "name": x, "max": 1, "nameGap": 24},
        "yAxis": {**axis, "name": y, "nameGap": 38, **({"max": 1} if diagonal else {})},
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "series": series,
    }
    with ui.element("figure"):
        ui.echart(options).classes("chart").props(f'role="img" aria-label="{title}"')
        with ui.element("details"):
            text("summary", _("as numbers"))
            with ui.element("table").classes("numbers"):
                for first, second in points[:: max(1, len(points) // 10)]:
                    with ui.element("tr"):
                        text("td", f"{first:.3f}", "number")
                        text("td", f"{second:.3f}", "number")


def _corrections(context: AppContext, source: str, origin: str) -> _Checked:
    corrections = [past for past in find_verdicts(context, source=source, limit=_CORRECTIONS) if past.corrected_to]
    anomalous = [past.corrected_to == "anomalous" for past in corrections]
    return _Checked([past.verdict for past in corrections], anomalous, origin)


def _check_file(context: AppContext, source: str, upload: Upload) -> _Checked:
    options = ReadOptions.model_validate(context.source(source).reading or {})
    if options.label is None:
        raise UsageError("the source was not learned from a file with labels: it is not known how to read them")
    read = UploadedFiles.of(options, upload.folder).read(upload.name, context.settings.max_record_chars)
    rows = [row for row in read if isinstance(row, ParsedRow)]
    answers = judge_many(context, build(context), [row.record for row in rows], source, "none", keep=False)
    pairs = [(answer, row.label) for answer, row in zip(answers, rows, strict=True) if isinstance(answer, Verdict)]
    return _Checked([v for v, _label in pairs], [label == "anomalous" for _v, label in pairs], upload.name)
