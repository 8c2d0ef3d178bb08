"""The pages of the console, a module for each."""

from __future__ import annotations

from nicegui import ui


def register() -> None:
    """Register all pages with NiceGUI."""
    from agent.api.console.pages.casebook import casebook_page
    from agent.api.console.pages.judge import judge_page
    from agent.api.console.pages.live import live_page
    from agent.api.console.pages.source import source_page
    from agent.api.console.pages.unlabelled import unlabelled_page

    ui.page("/")(judge_page)
    ui.page("/unlabelled")(unlabelled_page)
    ui.page("/live")(live_page)
    ui.page("/casebook")(casebook_page)
    ui.page("/source")(source_page)
