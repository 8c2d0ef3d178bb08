"""Choosing the source of an uploaded file, or making a new one: from its labels, or by a description."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import ui

from agent.api.console.elements import notify_error, server, text
from agent.api.console.i18n import _
from agent.api.console.jobs import Upload, UploadedFiles, proposed_name
from agent.api.console.reading_view import show_reading
from agent.core.errors import EXPECTED, describe
from agent.core.terminal import plural
from agent.data.read_options import ReadOptions
from agent.data.readers import DEFAULT_NORMAL
from agent.data.readers.values import normalise_label
from agent.training.learn import LearnResult, check_name, learn
from agent.training.reading_report import ReadingReport, survey

NEW = "\0new"
# bytes up to which a file of a known source is read whole before it is judged
_SURVEYED_BYTES = 20 * 1024 * 1024
_VALUES = 200
_LOG_COLUMNS = tuple(str(i) for i in range(8))


def reading_of(source: str) -> ReadOptions:
    """How files of the source are read."""
    return ReadOptions.model_validate(server().context.source(source).reading or {})


class SourceForm:
    """The choice of a source for an upload.

    Parameters
    ----------
    on_judge : callable
        Called with the source's name and how to read the upload, to judge it.
    """

    def __init__(self, upload: Upload, source: str | None, on_judge: Callable[[str, ReadOptions], object]) -> None:
        self._upload, self._on_judge = upload, on_judge
        names = server().context.casebook.names()
        chosen = source if source in names else None
        if chosen is None and len(names) < 2:
            # of several none is chosen: the wrong one would give wrong verdicts
            chosen = names[0] if names else NEW
        options = {**{name: name for name in names}, NEW: _("A new source …")}
        with ui.element("div").classes("fields-row"):
            self._source = ui.select(options, value=chosen, label=_("Source"), on_change=lambda: self._draw())
            self._source.props("outlined dense options-dense").classes("wide").mark("source")
        self._below = ui.element("div").classes("source-form")
        ui.timer(0, self._draw, once=True)

    async def _draw(self) -> None:
        self._below.clear()
        with self._below:
            if self._source.value == NEW:
                await NewSource(self._upload, self._on_judge).draw()
            elif self._source.value:
                await self._known(str(self._source.value))

    async def _known(self, source: str) -> None:
        options = reading_of(source)
        button = ui.button(_("Judge"), on_click=lambda: self._on_judge(source, options)).props("unelevated no-caps")
        button.mark("judge")
        box = ui.element("div")
        with box:
            if self._upload.path.stat().st_size > _SURVEYED_BYTES:
                text("p", _("The file is large: its records are read when they are judged."), "faint")
                return
            report = await _survey(self._upload, options, lenient=True)
            if report is not None:
                show_reading(report)


async def _survey(upload: Upload, options: ReadOptions, *, lenient: bool = False) -> ReadingReport | None:
    """What reading the upload finds; None, and a notice, where it cannot be read so."""
    limit = server().settings.max_record_chars
    files = UploadedFiles.of(options, upload.folder, lenient=lenient)
    waiting = ui.spinner("dots", size="lg")
    try:
        return await asyncio.to_thread(survey, [upload.name], files, limit)
    except EXPECTED as error:
        text("p", upload.without_folder(describe(error)), "note warn").props('role="alert"')
        return None
    finally:
        waiting.delete()


class NewSource:
    """The form of a new source."""

    def __init__(self, upload: Upload, on_judge: Callable[[str, ReadOptions], object]) -> None:
        self._upload, self._on_judge = upload, on_judge
        self._label: str | None = None
        self._normal: tuple[str, ...] = ()

    async def draw(self) -> None:
        """Read the file, and show what it holds and what is to be chosen."""
        report = await _survey(self._upload, ReadOptions())
        if report is None:
            return
        columns = [column.name for column in report.table.schema.columns] if report.table else list(_LOG_COLUMNS)
        choices = {"": _("no column: the file has no labels")}
        shown = _("word {n} of each line") if report.table is None else "{n}"
        choices |= {column: shown.format(n=int(column) + 1 if report.table is None else column) for column in columns}
        with ui.element("div").classes("fields-row"):
            self._name = ui.input(_("Name"), value=proposed_name(self._upload)).props("outlined dense").mark("name")
            label = ui.select(choices, value="", label=_("Which column holds the labels?"))
            label.props("outlined dense options-dense").classes("wide").mark("label-column")
        self._brief = ui.textarea(_("What is this, what is normal, what is anomalous? (a few sentences; optional)"))
        self._brief.props("outlined dense autogrow").classes("full").mark("brief")
        self._labels = ui.element("div")
        with ui.element("div").classes("actions"):
            self._learn = ui.button(_("Learn"), on_click=self._start_learning).props("unelevated no-caps").mark("learn")
            self._describe = ui.button(_("Judge by the description"), on_click=self._judge_unlabelled)
            self._describe.props("unelevated no-caps").mark("describe")
            self._rank = text("a", _("No labels yet? Rank its templates"), "button-link")
            self._rank.props(f'href="/unlabelled?upload={self._upload.id}"')
        self._progress = text("p", "", "faint").props('role="status"')
        self._report = ui.element("div")
        with self._report:
            show_reading(report)
        self._learn.set_visibility(False)
        label.on_value_change(lambda event: self._choose_label(event.value or None))

    async def _choose_label(self, label: str | None) -> None:
        self._label = label
        self._learn.set_visibility(label is not None)
        for other in (self._describe, self._rank):
            other.set_visibility(label is None)
        self._labels.clear()
        self._report.clear()
        with self._report:
            report = await _survey(self._upload, ReadOptions(label=label))
        if report is None:
            self._learn.set_visibility(False)
            return
        with self._report:
            show_reading(report)
        if label is None:
            return
        values = [value for value, _count in report.label_values.most_common(_VALUES)]
        defaults = [value for value in values if normalise_label(value) in {normalise_label(v) for v in DEFAULT_NORMAL}]
        with self._labels:
            if len(values) >= _VALUES:
                text("p", _("This column has very many values: is it the one with the labels?"), "note warn")
            normal = ui.select(values, multiple=True, value=defaults, label=_("Values that mean normal"))
            normal.props("outlined dense use-chips options-dense").classes("wide").mark("normal-values")
        self._set_normal(defaults)
        normal.on_value_change(lambda event: self._set_normal(event.value))

    def _set_normal(self, values: list[str]) -> None:
        self._normal = tuple(values)
        self._learn.set_enabled(bool(values))

    async def _start_learning(self) -> None:
        context, progress = server().context, list[str]()
        name, brief = str(self._name.value).strip(), (self._brief.value or "").strip()
        options = UploadedFiles.of(ReadOptions(label=self._label, normal=self._normal), self._upload.folder)

        def run() -> LearnResult:
            def note(step: str, done: int, total: int) -> None:
                progress[:] = [f"{step} {done:,}" + (f" / {total:,}" if total else "")]

            return learn(context, [self._upload.name], name, options, brief=brief or None, progress=note)

        self._learn.disable()
        timer = ui.timer(0.3, lambda: self._progress.set_text(progress[0] if progress else _("reading")))
        try:
            result = await self._checked(run)
        finally:
            timer.cancel()
            self._learn.enable()
            self._progress.set_text("")
        if result is not None:
            self._learned(result)

    async def _checked(self, run: Callable[[], LearnResult]) -> LearnResult | None:
        try:
            check_name(str(self._name.value).strip())
            return await asyncio.to_thread(run)
        except EXPECTED as error:
            notify_error(describe(error))
            return None

    def _learned(self, result: LearnResult) -> None:
        self._report.clear()
        with self._report, ui.element("div").classes("note good").props('role="status"'):
            text("p", f"{result.source}: {plural(result.added, _('new case'))}", "strong")
            remarks = [*result.case_notes, result.language_note, *map(str, result.unreadable[:3])]
            remarks += [f"{_('brief')}: {result.brief}" if result.brief else None]
            remarks += [f"{_('Learned without the language model')}: {result.language_missing}"] * bool(
                result.language_missing
            )
            for remark in filter(None, remarks):
                text("p", remark)
            with ui.element("div").classes("actions"):
                read = reading_of(result.source)
                ui.button(_("Judge this file"), on_click=lambda: self._on_judge(result.source, read)).props(
                    "unelevated no-caps"
                ).mark("judge-learned")
                text("a", _("Judge other data")).classes("button-link").props(f'href="/?source={result.source}"')

    async def _judge_unlabelled(self) -> None:
        name, brief = str(self._name.value).strip(), (self._brief.value or "").strip()
        if not brief:
            notify_error(_("Describe in a few sentences what is normal and what is anomalous, or choose the labels."))
            return
        context = server().context

        def create() -> None:
            context.casebook.create(check_name(name))
            context.casebook.set(name, brief=brief, brief_by="person")

        try:
            await asyncio.to_thread(create)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        done = self._on_judge(name, ReadOptions())
        if isinstance(done, Awaitable):
            await done
