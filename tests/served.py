"""One small learned source, and the app on it; what changes memory gets a copy of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sse_starlette.sse import AppStatus
from starlette.testclient import TestClient

from agent.core.settings import Settings
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from server import create_app
from tests.conftest import give_language_weight, make_settings
from tests.shop import BRIEF, LOG

HOST = "http://127.0.0.1"


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
