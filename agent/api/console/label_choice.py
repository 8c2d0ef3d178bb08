"""How an upload is read as cases: which column holds the labels, which of its values mean normal, what that gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nicegui import ui

from agent.api.console.elements import server, text
from agent.api.console.i18n import _
from agent.api.console.jobs import Upload, UploadedFiles
from agent.api.console.reading_view import show_reading
from agent.core.errors import EXPECTED, describe
from agent.data.read_options import ReadOptions
from agent.data.readers.values import normalise_label
from agent.training.learn import LearnResult, learn
from agent.training.reading_report import ReadingReport, survey

_VALUES = 200
_LOG_COLUMNS = tuple(str(i) for i in range(8))


async def survey_upload(upload: Upload, options: ReadOptions, *, lenient: bool = False) -> ReadingReport | None:
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
        # it may have gone with the form
        if not waiting.is_deleted:
            waiting.delete()


class LabelChoice:
    """The choice, and below it the reading report with the first records.

    Parameters
    ----------
    upload : Upload
    options : ReadOptions
        How the file is read; a label column and normal values of it are proposed.
    without : str
        What it means to choose no column.
    on_change : callable
        Called when another column or other values were chosen.
    """

    def __init__(self, upload: Upload, options: ReadOptions, without: str, on_change: Callable[[], None]) -> None:
        self._upload, self._proposed, self._without, self._on_change = upload, options, without, on_change
        self._label: str | None = None
        self._normal: tuple[str, ...] = ()
        self.is_readable = False
        self._columns = ui.element("div").classes("fields-row")
        self._values = ui.element("div")

    @property
    def label(self) -> str | None:
        """The column that holds the labels; None for no column."""
        return self._label

    @property
    def is_complete(self) -> bool:
        """Whether the file can be learned so: a column needs values that mean normal."""
        return self.is_readable and (self._label is None or bool(self._normal))

    @property
    def options(self) -> ReadOptions:
        """How to read the file."""
        chosen: dict[str, object] = {"label": self._label}
        if self._normal:
            chosen["normal"] = self._normal
        return self._proposed.model_copy(update=chosen)

    async def draw(self) -> None:
        """Read the file, and show what it holds and what is to be chosen."""
        proposed = self._proposed.label
        self._report = ui.element("div")
        with self._report:
            listed = report = await survey_upload(self._upload, self._proposed)
            if report is None and proposed is not None:
                # without that column: which ones it has
                listed = await survey_upload(self._upload, ReadOptions())
        if listed is not None:
            choices = self._choices(listed, proposed if report is not None else None)
            with self._columns:
                chosen = proposed if report is not None and proposed is not None else ""
                label = ui.select(choices, value=chosen, label=_("Which column holds the labels?"))
                label.props("outlined dense options-dense").classes("wide").mark("label-column")
            label.on_value_change(lambda event: self._choose(event.value or None))
        self._show(report, proposed)

    def _choices(self, report: ReadingReport, label: str | None) -> dict[str, str]:
        """The columns as a person knows them."""
        columns = [column.name for column in report.table.schema.columns] if report.table else []
        if not columns:
            words = dict.fromkeys([*_LOG_COLUMNS, *filter(None, [label])])
            return {"": self._without} | {word: _("word {n} of each line").format(n=int(word) + 1) for word in words}
        return {"": self._without} | {name: name for name in dict.fromkeys([*filter(None, [label]), *columns])}

    async def _choose(self, label: str | None) -> None:
        self._report.clear()
        with self._report:
            report = await survey_upload(self._upload, self._proposed.model_copy(update={"label": label}))
        self._show(report, label)

    def _show(self, report: ReadingReport | None, label: str | None) -> None:
        self._label, self._normal, self.is_readable = label, (), report is not None and report.records > 0
        self._values.clear()
        if report is not None:
            with self._report:
                show_reading(report)
            if label is not None and self.is_readable:
                self._choose_values(report)
        self._on_change()

    def _choose_values(self, report: ReadingReport) -> None:
        values = [value for value, _count in report.label_values.most_common(_VALUES)]
        normal = {normalise_label(value) for value in self._proposed.normal}
        self._normal = tuple(value for value in values if normalise_label(value) in normal)
        with self._values:
            if len(values) >= _VALUES:
                text("p", _("This column has very many values: is it the one with the labels?"), "note warn")
            chosen = ui.select(values, multiple=True, value=list(self._normal), label=_("Values that mean normal"))
            chosen.props("outlined dense use-chips options-dense").classes("wide").mark("normal-values")
        chosen.on_value_change(lambda event: self._set_normal(event.value))

    def _set_normal(self, values: list[str]) -> None:
        self._normal = tuple(values)
        self._on_change()

    def clear_report(self) -> None:
        """Remove the reading report."""
        self._report.clear()


class Learning:
    """Learns an upload in a thread, and shows how far it is."""

    def __init__(self) -> None:
        self._line = text("p", "", "faint").props('role="status"')

    async def run(
        self, upload: Upload, source: str, options: ReadOptions, *, brief: str | None = None, all_normal: bool = False
    ) -> LearnResult:
        """See `agent.training.learn.learn`, whose errors it raises."""
        context, progress = server().context, [_("reading")]
        files = UploadedFiles.of(options, upload.folder)

        def note(step: str, done: int, total: int) -> None:
            progress[0] = f"{step} {done:,}" + (f" / {total:,}" if total else "")

        def run() -> LearnResult:
            return learn(context, [upload.name], source, files, brief=brief, all_normal=all_normal, progress=note)

        timer = ui.timer(0.3, lambda: self._line.set_text(progress[0]))
        try:
            return await asyncio.to_thread(run)
        finally:
            timer.cancel()
            self._line.set_text("")
