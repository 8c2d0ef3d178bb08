"""One small learned source, and the app on it; what changes memory gets a copy of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from sse_starlette.sse import AppStatus
from starlette.testclient import TestClient

from agent.core.settings import Settings
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from benchmarks.private_ollama import free_port
from server import create_app
from tests.conftest import give_language_weight, make_settings
from tests.shop import BRIEF, LOG

HOST = "http://127.0.0.1"
# the command `precedent`
ENTRY = "from agent.cli.app import main; main()"
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the source `shop`, never changed: copy it."""
    home = tmp_path_factory.mktemp("learned") / "home"
    log = home.parent / "shop.log"
    log.write_text(LOG, encoding="utf-8")
    context = AppContext(make_settings(home))
    learn(context, [log], "shop", ReadOptions(format="log", label="0", normal=("-",)), brief=BRIEF, budget=0)
    give_language_weight(context, "shop")
    context.close()
    return home


@pytest.fixture(scope="session")
def copy_of(learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Settings]:
    """Settings on a fresh copy of the learned data directory."""

    def make(**values: object) -> Settings:
        home = tmp_path_factory.mktemp("copy") / "home"
        shutil.copytree(learned, home, ignore=shutil.ignore_patterns("*.lock"))
        return make_settings(home, **values)

    return make


@pytest.fixture(scope="module")
def client(copy_of: Callable[..., Settings]) -> Iterator[TestClient]:
    """The app on a copy of its own for each module; its errors come as answers, as they would over the wire."""
    with TestClient(create_app(copy_of()), base_url=HOST, raise_server_exceptions=False) as made:
        yield made


@pytest.fixture(autouse=True)
def event_of_no_loop() -> None:
    """sse-starlette keeps one event for the whole process, bound to the first event loop; each app here has its own."""
    AppStatus.should_exit_event = None


def eventually(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def running(chosen: Settings) -> Iterator[str]:
    """The app on a real socket, within this process, so that its tokens can be counted."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(chosen), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(60)


@dataclass(frozen=True)
class Address:
    """Where a server is, and the API key that it requires, if it does."""

    url: str
    key: str | None

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"} if self.key else {}


@pytest.fixture(scope="session", params=[None, "sesame"], ids=["open", "with-key"])
def address(copy_of: Callable[..., Settings], request: pytest.FixtureRequest) -> Iterator[Address]:
    """The app on a real socket without a language model, without and with an API key; its memory is shared."""
    with running(copy_of(model="none", api_key=request.param)) as url:
        assert eventually(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        yield Address(url, request.param)


def until_ready(url: str, process: subprocess.Popen[str] | None = None) -> None:
    """Wait for a server, which ``process`` runs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not come up")


class Served:
    """`precedent serve` in a process of its own, which runs ``code`` and has the settings ``others`` as well."""

    def __init__(self, chosen: Settings, *options: str, code: str = ENTRY, **others: object) -> None:
        self.port = free_port()
        self.url = f"{HOST}:{self.port}"
        values = {"home": chosen.home, "cache": chosen.cache, "model": chosen.model, "offline": "true", **others}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PRECEDENT_")},
            **{f"PRECEDENT_{name.upper()}": str(value) for name, value in values.items()},
        }
        command = [sys.executable, "-c", code, "serve", "--port", str(self.port), *options]
        # a pipe that nobody reads would fill
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=self._errors, text=True)

    def wait(self) -> None:
        try:
            until_ready(self.url, self.process)
        except AssertionError as error:
            raise AssertionError(self.stop()) from error

    def stop(self) -> str:
        """Stops it as Ctrl-C does; returns what it wrote on standard error."""
        self.process.terminate()
        self.process.wait(60)
        self._errors.seek(0)
        return self._errors.read()

    def resident_bytes(self, *, peak: bool = False) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]
