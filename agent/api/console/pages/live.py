"""The page *Live*: what `precedent watch` judges now: a timeline, the rate, and what is not normal, grouped."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from nicegui import ui

from agent.api.console.elements import for_role, notify_error, server, text
from agent.api.console.frame import page_frame
from agent.api.console.i18n import _
from agent.api.console.verdict_panel import VerdictPanel
from agent.core.access import Role, require
from agent.core.errors import EXPECTED, describe
from agent.core.terminal import truncate
from agent.pipeline.history import load_verdict
from retrieval.store.watch import LiveGroup, acknowledge, live_counts, live_groups, mute

_REFRESH_SECONDS, _TEXT, _GROUPS = 2.0, 240, 100
_MINUTES = {15: "15 min", 60: "1 h", 360: "6 h", 1_440: "24 h"}
_COLOURS = {"normal": "#8fb8a8", "unsure": "#d9a520", "anomalous": "#d9573f"}
_EVERY = ""
Count = tuple[str, datetime, str, int]


def live_page(source: str = "") -> None:
    """Show what was judged lately."""
    with page_frame(_("Live")):
        LiveView(source)


class LiveView:
    """The timeline and the groups, looked up every two seconds while the page is open."""

    def __init__(self, source: str) -> None:
        names = server().context.casebook.names()
        self._source, self._minutes, self._with_muted = source if source in names else _EVERY, 60, False
        self._shown: tuple[list[Count], list[LiveGroup]] | None = None
        with ui.element("div").classes("toolbar"):
            choices = {_EVERY: _("all sources"), **{name: name for name in names}}
            chosen = ui.select(choices, value=self._source, label=_("Source")).props("outlined dense options-dense")
            chosen.on_value_change(lambda event: self._choose(source=event.value)).classes("wide")
            span = ui.toggle(_MINUTES, value=self._minutes).props("dense no-caps unelevated")
            span.props(f'role="group" aria-label="{_("Time span")}"')
            span.on_value_change(lambda event: self._choose(minutes=event.value))
            muted = ui.switch(_("show muted"), value=False)
            muted.on_value_change(lambda event: self._choose(with_muted=event.value))
            ui.space()
            self._rate = text("p", "", "strong").props('role="status"')
        self._hint = text("p", "", "note")
        self._hint.set_visibility(False)
        with ui.element("figure").classes("card"):
            self._chart = ui.echart(_options({})).classes("timeline")
            self._chart.props(f'role="img" aria-label="{_("Records by minute and label")}"')
        with ui.element("div").classes("split live-split"):
            self._list = ui.element("div").classes("live-list").props(f'tabindex="0" aria-label="{_("Groups")}"')
            self._list.props('role="group"')
            self._panel = VerdictPanel(lambda _verdict, _label: None)
        ui.keyboard(on_key=self._panel.on_key, ignore=["input", "select", "textarea"])
        ui.timer(_REFRESH_SECONDS, self.refresh)

    async def _choose(self, **changed: Any) -> None:
        for name, value in changed.items():
            setattr(self, f"_{name}", value)
        await self.refresh()

    async def refresh(self) -> None:
        """Look up what is new."""
        now = datetime.now(UTC)
        since, engine = now - timedelta(minutes=self._minutes), server().context.casebook.engine
        source, muted = self._source or None, None if self._with_muted else False

        def look() -> tuple[list[Count], list[LiveGroup]]:
            groups = live_groups(engine, source, since=since, muted=muted, limit=_GROUPS)
            return live_counts(engine, source, since=since), groups

        found = await asyncio.to_thread(look)
        if found == self._shown:
            return
        self._shown = found
        counts, groups = found
        self._chart.options.clear()
        self._chart.options.update(_options(_by_minute(counts)))
        self._chart.update()
        records = sum(count for *_rest, count in counts)
        latest = sum(count for _name, minute, _label, count in counts if minute >= now - timedelta(minutes=5))
        self._rate.set_text(f"{records:,} {_('records')} · {latest / 300:,.1f} {_('a second lately')}")
        self._hint.set_visibility(not records)
        hint = _("No stream was watched in this time. Start one: precedent watch FILE --source NAME")
        self._hint.set_text(hint)
        self._list.clear()
        with self._list:
            for group in groups:
                self._group(group)

    def _group(self, group: LiveGroup) -> None:
        state = " muted" if group.is_muted else " seen" if group.acknowledged_at else ""
        with ui.element("div").classes(f"live-group {group.label}{state}"):
            with ui.element("button").classes("live-open").on("click", partial(self._open, group.verdict_id), args=[]):
                with ui.element("span").classes("live-head"):
                    text("span", f"{group.count:,} ×", "strong")
                    text("span", _(group.label), f"tag {group.label}")
                    text("span", group.source, "faint")
                    text("span", f"{group.first_at:%m-%d %H:%M:%S} – {group.last_at:%H:%M:%S} UTC", "faint")
                text("code", truncate(group.text, _TEXT))
                text("span", truncate(group.why, _TEXT), "faint")
            with ui.element("div").classes("live-buttons"):
                seen = _("acknowledged") if group.acknowledged_at else _("Acknowledge")
                button = ui.button(seen, on_click=partial(self._acknowledge, group)).props("outline dense no-caps")
                button.set_enabled(group.acknowledged_at is None)
                for_role(button, Role.CORRECT)
                sound = _("Unmute") if group.is_muted else _("Mute")
                button = ui.button(sound, on_click=partial(self._mute, group)).props("flat dense no-caps")
                for_role(button, Role.CORRECT)

    async def _open(self, verdict_id: str) -> None:
        context = server().context
        try:
            verdict = await asyncio.to_thread(load_verdict, context, verdict_id)
            corrected = await asyncio.to_thread(context.history.corrected_to, verdict_id)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        self._panel.show(verdict, corrected)

    async def _acknowledge(self, group: LiveGroup) -> None:
        await self._change(partial(acknowledge, server().context.casebook.engine, group.source, group.template))

    async def _mute(self, group: LiveGroup) -> None:
        engine = server().context.casebook.engine
        await self._change(partial(mute, engine, group.source, group.template, muted=not group.is_muted))

    async def _change(self, change: Callable[[], object]) -> None:
        try:
            require(Role.CORRECT)
            await asyncio.to_thread(change)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        await self.refresh()


def _by_minute(counts: list[Count]) -> dict[str, list[tuple[int, int]]]:
    """Records of all sources by label, as pairs of the minute (milliseconds since 1970) and their number."""
    by_label: dict[str, defaultdict[int, int]] = {label: defaultdict(int) for label in _COLOURS}
    for _source, minute, label, count in counts:
        by_label[label][int(minute.timestamp() * 1000)] += count
    minutes = sorted({minute for numbers in by_label.values() for minute in numbers})
    return {label: [(minute, numbers[minute]) for minute in minutes] for label, numbers in by_label.items()}


def _options(by_label: dict[str, list[tuple[int, int]]]) -> dict[str, Any]:
    grey = {"color": "#7f8f97"}
    series = [
        {"name": _(label), "type": "bar", "stack": "records", "color": colour, "data": by_label.get(label, [])}
        for label, colour in _COLOURS.items()
    ]
    return {
        "grid": {"left": 50, "right": 12, "top": 30, "bottom": 24},
        "legend": {"top": 0, "textStyle": grey},
        "xAxis": {"type": "time", "axisLabel": grey},
        "yAxis": {"type": "value", "axisLabel": grey, "minInterval": 1},
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "animation": False,
        "series": series,
    }
