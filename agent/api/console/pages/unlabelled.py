"""The page *No labels yet?*: the events of a file by how unusual they are, labelled by one key each."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from nicegui import events, ui

from agent.api.console.elements import for_role, notify_error, server, text
from agent.api.console.frame import page_frame
from agent.api.console.i18n import _
from agent.api.console.intake import data_form, store_pasted
from agent.api.console.jobs import Upload, UploadedFiles, proposed_name
from agent.bulk.unlabelled.labelling import learn_labels
from agent.bulk.unlabelled.models import Event, Ranking
from agent.bulk.unlabelled.ranking import rank_templates
from agent.core.access import Role
from agent.core.errors import EXPECTED, describe
from agent.core.records import Label
from agent.core.terminal import plural, truncate
from agent.data.read_options import ReadOptions
from agent.training.learn import learn

_SHOWN, _TEXT, _COMPANIONS, _VALUES = 40, 600, 5, 4
_KEYS: dict[str, Label] = {"n": "normal", "a": "anomalous"}


def unlabelled_page(upload: str = "") -> None:
    """Show where to bring a file, or the events of one."""
    with page_frame(_("No labels yet?")):
        view = UnlabelledView()
        sent = server().jobs.upload(upload)
        if sent is None:
            view.show_form()
        else:
            ui.timer(0, partial(view.show, sent), once=True)


class UnlabelledView:
    """The content of the page."""

    def __init__(self) -> None:
        self._upload: Upload | None = None
        self._events: tuple[Event, ...] = ()
        self._labels: dict[int, Label] = {}
        self._current = 0
        self._rows: list[EventRow] = []
        self._box = ui.element("div")
        ui.on("uploaded", self._on_upload)
        ui.keyboard(on_key=self._on_key, ignore=["input", "select", "textarea"])

    def show_form(self) -> None:
        """Show where to bring a file."""
        self._box.clear()
        with self._box, ui.element("div").classes("intake"):
            text(
                "p",
                _(
                    "Bring a log without labels: its events are ranked, the most unusual first. Nothing is called"
                    " anomalous before you label it."
                ),
            )
            data_form(self._pasted)

    async def _pasted(self, pasted: str) -> None:
        upload = await store_pasted(pasted)
        if upload is not None:
            await self.show(upload)

    async def _on_upload(self, event: events.GenericEventArguments) -> None:
        sent = event.args if isinstance(event.args, dict) else {}
        upload = server().jobs.upload(str(sent.get("upload", "")))
        if upload is not None:
            await self.show(upload)

    async def show(self, upload: Upload) -> None:
        """Rank the upload's events."""
        self._upload, self._labels, self._rows, self._current = upload, {}, [], 0
        # within the box, because what called this may go with what the box held
        with self._box:
            ui.run_javascript(f"history.replaceState(history.state, '', '/unlabelled?upload={upload.id}')")
            self._box.clear()
            ranking = await self._rank(upload)
            if ranking is not None:
                self._box.clear()
                self._show(upload, ranking)

    async def _rank(self, upload: Upload) -> Ranking | None:
        limit, state = server().settings.max_record_chars, [_("reading")]
        with ui.element("div").classes("running").props('role="status"'):
            text("h2", f"{_('Looking for unusual events in')} {upload.name}")
            line = text("p", state[0], "faint")
            timer = ui.timer(0.4, lambda: line.set_text(state[0]))

        def note(step: str, done: int, *_rest: object) -> None:
            state[0] = f"{step} {done:,}"

        rank = partial(rank_templates, [str(upload.path)], ReadOptions(), limit=_SHOWN, max_chars=limit, progress=note)
        try:
            return await asyncio.to_thread(rank)
        except EXPECTED as error:
            text("p", upload.without_folder(describe(error)), "note warn").props('role="alert"')
            ui.button(_("Back"), on_click=self.show_form).props("flat no-caps")
            return None
        finally:
            timer.cancel()

    def _show(self, upload: Upload, ranking: Ranking) -> None:
        self._events = ranking.events
        with self._box:
            with ui.element("div").classes("toolbar"):
                line = f"{upload.name}: {plural(ranking.records, 'record')}, {plural(ranking.templates, 'template')}"
                text("p", line, "strong")
                ui.space()
                ui.button(_("Other data"), on_click=self.show_form).props("flat dense no-caps")
            note = _("Nothing is labelled yet. Label the events that you know: {n} normal, {a} anomalous, {s} skip.")
            text("p", note.format(n="n", a="a", s="s"), "faint run-line")
            self._make_source(upload)
            with ui.element("ol").classes("events").props(f'aria-label="{_("Events")}"'):
                self._rows = [EventRow(i, event, self) for i, event in enumerate(self._events)]
            if ranking.more:
                text("p", f"{ranking.more:,} {_('more events are less unusual')}", "faint")
        self.focus(0)

    def _make_source(self, upload: Upload) -> None:
        with ui.element("div").classes("toolbar sticky"):
            self._count = text("strong", _("nothing labelled"))
            self._name = ui.input(_("Name of the source"), value=proposed_name(upload)).props("outlined dense")
            self._make = ui.button(_("Make a source of the labels"), on_click=self._learn)
            self._make.props("unelevated no-caps").mark("make-source")
            self._enable()
            rest = ui.button(_("The whole file is normal"), on_click=partial(self._learn, all_normal=True))
            for_role(rest.props("outline no-caps").mark("all-normal"), Role.ADMIN)
            self._status = text("span", "", "faint").props('role="status"')

    def label(self, place: int, label: Label | None) -> None:
        """Label an event, or take its label away; the next one gets the focus."""
        if label is None:
            self._labels.pop(place, None)
        else:
            self._labels[place] = label
        self._rows[place].show_label(label)
        counts = [f"{list(self._labels.values()).count(name):,} {_(name)}" for name in _KEYS.values()]
        self._count.set_text(", ".join(counts) if self._labels else _("nothing labelled"))
        self._enable()
        self.focus(place + 1)

    def _enable(self) -> None:
        self._make.set_enabled(bool(self._labels))
        for_role(self._make, Role.ADMIN)

    def focus(self, place: int) -> None:
        """Make an event the one that keys label."""
        if not self._rows:
            return
        self._rows[self._current].set_current(False)
        self._current = min(max(0, place), len(self._rows) - 1)
        self._rows[self._current].set_current(True)

    def _on_key(self, event: events.KeyEventArguments) -> None:
        modified = event.modifiers.ctrl or event.modifiers.alt or event.modifiers.meta
        if not event.action.keydown or modified or not self._rows:
            return
        key = event.key.name.lower()
        if key in ("arrowdown", "j", "s"):
            self.focus(self._current + 1)
        elif key in ("arrowup", "k"):
            self.focus(self._current - 1)
        elif not event.action.repeat and key in _KEYS:
            self.label(self._current, _KEYS[key])
        elif not event.action.repeat and key == "u":
            place = max(0, self._current - (self._current not in self._labels))
            self.label(place, None)
            self.focus(place)

    async def _learn(self, *, all_normal: bool = False) -> None:
        upload, context, name = self._upload, server().context, str(self._name.value).strip()
        assert upload is not None
        labelled = [(_named(self._events[place], upload), label) for place, label in sorted(self._labels.items())]

        def run() -> int:
            if all_normal:
                read = UploadedFiles.of(ReadOptions(), upload.folder)
                return learn(context, [upload.name], name, read, all_normal=True).added
            return learn_labels(context, name, ReadOptions(), labelled)

        self._make.disable()
        self._status.set_text(_("learning …"))
        try:
            added = await asyncio.to_thread(run)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        finally:
            self._enable()
            self._status.set_text("")
        ui.notify(f"{name}: {plural(added, _('new case'))}", type="positive")
        read = ReadOptions.model_validate(context.source(name).reading or {})
        job = server().jobs.start(context, upload, name, read)
        ui.navigate.to(f"/?job={job.id}")


def _named(event: Event, upload: Upload) -> Event:
    """The event with the upload's own name in its records."""
    companions = tuple(
        other.model_copy(update={"example": other.example.model_copy(update={"file": upload.name})})
        for other in event.companions
    )
    example = event.example.model_copy(update={"file": upload.name})
    return event.model_copy(update={"example": example, "companions": companions})


class EventRow:
    """An event in the list."""

    def __init__(self, place: int, event: Event, view: UnlabelledView) -> None:
        self._buttons: dict[Label, ui.button] = {}
        with ui.element("li").classes("event").on("click", lambda: view.focus(place), args=[]) as self._row:
            with ui.element("div").classes("event-main"):
                text("pre", truncate(event.example.text or str(event.example.fields), _TEXT), "event-text")
                with ui.element("p").classes("event-why"):
                    for reason in event.reasons:
                        text("span", reason, "reason")
                first, last = (seen.time or f"{Path(seen.file).name}:{seen.line}" for seen in (event.first, event.last))
                when = first if event.records == 1 else f"{first} – {last}"
                text("p", f"{plural(event.records, 'record')} · {_('line')} {event.first.line} · {when}", "faint")
                for parameter in event.parameters:
                    top = ", ".join(f"{value} ({count:,})" for value, count in parameter.top[:_VALUES])
                    text(
                        "p", f"{parameter.name}: {parameter.distinct:,} {_('different')}: {truncate(top, 300)}", "faint"
                    )
                self._more(event)
            self._counts(event)
            with ui.element("div").classes("event-buttons"):
                for key, label in _KEYS.items():
                    button = ui.button(on_click=partial(view.label, place, label)).props("outline dense no-caps")
                    with button.props('aria-pressed="false"'):
                        text("span", _(label))
                        text("kbd", key)
                    self._buttons[label] = button

    @staticmethod
    def _counts(event: Event) -> None:
        most = max(event.counts, default=0) or 1
        chart = ui.element("div").classes("spark").props(f'role="img" aria-label="{_("Records over time")}"')
        with chart:
            for count in event.counts:
                ui.element("span").style(f"height:{max(4, 100 * count / most) if count else 0:.0f}%")

    @staticmethod
    def _more(event: Event) -> None:
        if not (event.context or event.companions):
            return
        with ui.element("details").classes("fields"):
            text("summary", _("Lines around it, and what occurs with it"))
            if event.context:
                lines = "\n".join(f"{line.line}: {truncate(line.text, 300)}" for line in event.context)
                text("pre", lines, "record").props(f'tabindex="0" aria-label="{_("Lines around it")}"')
            for other in event.companions[:_COMPANIONS]:
                text("p", f"{other.count:,} × {truncate(other.example.text, 300)}", "faint")

    def show_label(self, label: Label | None) -> None:
        """Show the label that a person gave."""
        for name, button in self._buttons.items():
            button.props(f'aria-pressed="{"true" if name == label else "false"}"')
            button.classes(add="chosen" if name == label else "", remove="" if name == label else "chosen")
        self._row.classes(remove="normal anomalous", add=label or "")

    def set_current(self, current: bool) -> None:
        """Show whether keys label this event."""
        if current:
            self._row.classes("current").props('aria-current="true"')
            script = f'getHtmlElement({self._row.id})?.scrollIntoView({{block: "nearest"}})'
            ui.run_javascript(script)
        else:
            self._row.classes(remove="current").props(remove="aria-current")
