"""The application on a real socket, and pages of it in a real headless Chromium."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import nicegui
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from agent.api.state import ServerState
from agent.core.settings import Settings
from server import create_app
from tests.conftest import missing
from tests.served import copy_of, learned

__all__ = ["copy_of", "learned"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# milliseconds; a page of a busy machine may take longer than Playwright's five seconds
expect.set_options(timeout=20_000)
# what the code behind the pages raised
RAISED: list[BaseException] = []
nicegui.app.on_exception(RAISED.append)


class Served:
    """An application that is served, and its state."""

    def __init__(self, url: str, state: ServerState) -> None:
        self.url, self.state = url, state


@contextmanager
def serving(settings: Settings) -> Iterator[Served]:
    """Serve an application in a thread, ready to judge."""
    from sse_starlette.sse import AppStatus

    AppStatus.should_exit_event = None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 120
        while app.state.server.not_ready and time.monotonic() < deadline:
            time.sleep(0.05)
        assert app.state.server.not_ready is None
        yield Served(f"http://127.0.0.1:{port}", app.state.server)
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def served(copy_of: Callable[..., Settings]) -> Iterator[Served]:
    """The source `shop` without a language model."""
    with serving(copy_of(model="none")) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium, of one module only: Playwright's event loop must not run while other tests start their own."""
    if CHROMIUM is None:
        missing("browser", "no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=OPTIONS)
        yield made
        made.close()


@contextmanager
def opened(browser: Browser, **options: object) -> Iterator[Page]:
    """A page; whatever it asks of another host, or throws, or pops up, fails the test."""
    wrong: list[str] = []
    RAISED.clear()
    # without transitions, in the middle of which colours have no contrast
    usual = {"viewport": {"width": 1360, "height": 860}, "locale": "en-US", "reduced_motion": "reduce"}
    context = browser.new_context(**{**usual, **options})  # type: ignore[arg-type]
    page = context.new_page()
    page.on("dialog", lambda dialog: (wrong.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: wrong.append(f"an error: {error}"))
    page.on("console", lambda line: wrong.append(f"console: {line.text}") if line.type == "error" else None)
    page.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
    page.on("request", lambda request: wrong.append(request.url) if "//127.0.0.1:" not in request.url else None)
    yield page
    context.close()
    wrong = [what for what in wrong if not what.startswith(("data:", "blob:"))]
    assert not wrong
    assert not RAISED


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on a desktop."""
    with opened(browser) as made:
        yield made


def axe(page: Page) -> list[str]:
    """Serious and critical violations, with the elements that have them."""
    found = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {[node['html'][:160] for node in violation['nodes'][:3]]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
    ]
