"""Choosing the source of an uploaded file, or making a new one: from its labels, or by a description."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import ui

from agent.api.console.elements import for_role, notify_error, server, text
from agent.api.console.i18n import _
from agent.api.console.jobs import Upload, proposed_name
from agent.api.console.label_choice import LabelChoice, Learning, survey_upload
from agent.api.console.reading_view import show_learned, show_reading
from agent.core.access import Role, require
from agent.core.errors import EXPECTED, describe
from agent.data.read_options import ReadOptions
from agent.training.learn import check_name

NEW = "\0new"
# bytes up to which a file of a known source is read whole before it is judged
_SURVEYED_BYTES = 20 * 1024 * 1024


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
        for_role(button.mark("judge"), Role.JUDGE)
        box = ui.element("div")
        with box:
            if self._upload.path.stat().st_size > _SURVEYED_BYTES:
                text("p", _("The file is large: its records are read when they are judged."), "faint")
                return
            report = await survey_upload(self._upload, options, lenient=True)
            if report is not None:
                show_reading(report)


class NewSource:
    """The form of a new source."""

    def __init__(self, upload: Upload, on_judge: Callable[[str, ReadOptions], object]) -> None:
        self._upload, self._on_judge = upload, on_judge

    async def draw(self) -> None:
        """Read the file, and show what it holds and what is to be chosen."""
        with ui.element("div").classes("fields-row"):
            self._name = ui.input(_("Name"), value=proposed_name(self._upload)).props("outlined dense").mark("name")
        without = _("no column: the file has no labels")
        self._choice = LabelChoice(self._upload, ReadOptions(), without, self._show_actions)
        self._brief = ui.textarea(_("What is this, what is normal, what is anomalous? (a few sentences; optional)"))
        self._brief.props("outlined dense autogrow").classes("full").mark("brief")
        with ui.element("div").classes("actions"):
            self._learn = ui.button(_("Learn"), on_click=self._start_learning).props("unelevated no-caps").mark("learn")
            self._describe = ui.button(_("Judge by the description"), on_click=self._judge_unlabelled)
            for_role(self._describe.props("unelevated no-caps").mark("describe"), Role.ADMIN)
            self._rank = text("a", _("No labels yet? Rank its templates"), "button-link")
            self._rank.props(f'href="/unlabelled?upload={self._upload.id}"')
        self._learning = Learning()
        self._result = ui.element("div")
        self._show_actions()
        await self._choice.draw()

    def _show_actions(self) -> None:
        has_labels = self._choice.label is not None
        self._learn.set_visibility(has_labels)
        self._learn.set_enabled(self._choice.is_complete)
        for_role(self._learn, Role.ADMIN)
        for other in (self._describe, self._rank):
            other.set_visibility(self._choice.is_readable and not has_labels)

    async def _start_learning(self) -> None:
        name, brief = str(self._name.value).strip(), (self._brief.value or "").strip()
        self._learn.disable()
        try:
            check_name(name)
            result = await self._learning.run(self._upload, name, self._choice.options, brief=brief or None)
        except EXPECTED as error:
            notify_error(self._upload.without_folder(describe(error)))
            return
        finally:
            self._learn.enable()
            for_role(self._learn, Role.ADMIN)
        self._choice.clear_report()
        self._result.clear()
        with self._result, ui.element("div").classes("note good").props('role="status"'):
            show_learned(result)
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
            require(Role.ADMIN)
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
