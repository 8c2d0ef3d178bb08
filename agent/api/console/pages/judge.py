"""The page *Judge*: bring data, choose its source, judge it, look at the verdicts, correct them."""

from __future__ import annotations

from nicegui import events, ui

from agent.api.console.elements import notify_error, server, text
from agent.api.console.frame import page_frame
from agent.api.console.i18n import _
from agent.api.console.intake import data_form, store_pasted
from agent.api.console.jobs import Job, Upload
from agent.api.console.results import Results
from agent.api.console.source_form import SourceForm
from agent.core.errors import Forbidden, describe
from agent.data.read_options import ReadOptions

_POLL_SECONDS = 0.4


def judge_page(job: str = "", source: str = "", upload: str = "") -> None:
    """Show a run, an upload whose source is to be chosen, or the form for data."""
    with page_frame(_("Judge")):
        view = JudgeView(source or None)
        state = server()
        if (known := state.jobs.get(job)) is not None:
            view.show_job(known)
        elif (sent := state.jobs.upload(upload)) is not None:
            view.show_upload(sent)
        else:
            view.show_form()


class JudgeView:
    """The content of the page, by what there is so far."""

    def __init__(self, source: str | None) -> None:
        self._source = source
        self._box = ui.element("div").classes("judge")
        ui.on("uploaded", self._on_upload)

    def show_form(self) -> None:
        """Show where to bring data."""
        self._address("/")
        self._box.clear()
        with self._box, ui.element("div").classes("intake"):
            data_form(self._pasted)
            names = server().context.casebook.names()
            if not names:
                text("p", _("There is no source yet: bring a file, and say what its labels are."), "faint")

    async def _pasted(self, pasted: str) -> None:
        upload = await store_pasted(pasted)
        if upload is not None:
            self.show_upload(upload)

    def _on_upload(self, event: events.GenericEventArguments) -> None:
        sent = event.args if isinstance(event.args, dict) else {}
        upload = server().jobs.upload(str(sent.get("upload", "")))
        if upload is not None:
            self.show_upload(upload)

    def show_upload(self, upload: Upload) -> None:
        """Show which source the upload may be of."""
        self._address(f"/?upload={upload.id}")
        self._box.clear()
        with self._box, ui.element("div").classes("intake"):
            with ui.element("div").classes("upload-head"):
                text("h2", upload.name)
                text("span", _size(upload.path.stat().st_size), "faint")
                ui.button(_("Other data"), on_click=self.show_form).props("flat dense no-caps")
            SourceForm(upload, self._source, lambda source, options: self._judge(upload, source, options))

    def _judge(self, upload: Upload, source: str, options: ReadOptions) -> None:
        self._source = source
        state = server()
        if state.not_ready:
            notify_error(f"{_('Records cannot be judged yet')}: {state.not_ready}")
            return
        try:
            job = state.jobs.start(state.context, upload, source, options)
        except Forbidden as error:
            notify_error(describe(error))
            return
        self.show_job(job)

    def show_job(self, job: Job) -> None:
        """Show how far a run is, then its verdicts."""
        self._source = job.source
        self._address(f"/?job={job.id}")
        self._box.clear()
        with self._box:
            if job.state == "running":
                self._running(job)
            elif job.state == "failed":
                text("p", job.problem or "", "note warn").props('role="alert"')
                ui.button(_("Back"), on_click=lambda: self.show_upload(job.upload)).props("flat no-caps")
            else:
                Results(job, lambda: self._judge(job.upload, job.source, job.options), self.show_form)

    def _running(self, job: Job) -> None:
        with ui.element("div").classes("running").props('role="status"'):
            text("h2", f"{_('Judging')} {job.upload.name}")
            bar = ui.linear_progress(0, show_value=False).props(f'rounded aria-label="{_("Progress")}"')
            line = text("p", "", "faint")
            ui.button(_("Cancel"), on_click=job.cancel).props("flat dense no-caps")

        def look() -> None:
            if job.state != "running":
                timer.cancel()
                self.show_job(job)
                return
            bar.set_value(min(1.0, job.done / max(1, job.total)))
            line.set_text(f"{job.step}: {job.done:,} / {job.total:,}" if job.done else job.step)

        timer = ui.timer(_POLL_SECONDS, look)

    @staticmethod
    def _address(path: str) -> None:
        ui.run_javascript(f"history.replaceState(history.state, '', {path!r})")


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"
