"""Downloads: only on request, resumed, checked, kept in the cache."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent.core.errors import MissingPart
from agent.data.datasets.catalog import DatasetEntry, DatasetFile, Download, find_dataset
from agent.data.datasets.download import cached_folder, fetch_dataset
from tests.llm.loopback import send, serving

from .conftest import Got

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]


def packed() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("readme", "x" * 20_000)
        archive.writestr("SMSSpamCollection", "ham\thello\nspam\twin\nham\tyes\nspam\tprize\n")
    return out.getvalue()


class Publisher:
    """Serves a file with Range and an entity tag; breaks off after 5,000 bytes while ``breaks`` lasts."""

    def __init__(self) -> None:
        self.content, self.tag, self.breaks, self.status = packed(), '"one"', 0, 200
        self.ranges: list[str | None] = []

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        byte_range, condition = handler.headers["Range"], handler.headers["If-Range"]
        self.ranges.append(byte_range)
        if self.status != 200:
            return send(handler, self.status, b"")
        same = byte_range is not None and condition in (None, self.tag)
        start = int(byte_range.removeprefix("bytes=").removesuffix("-")) if same else 0
        body = self.content[start:]
        shown = body[:5_000] if self.breaks else body
        self.breaks -= bool(self.breaks)
        headers = {"ETag": self.tag} if self.tag else {}
        return send(handler, 206 if same else 200, shown, Content_Length=str(len(body)), **headers)


@pytest.fixture
def publisher() -> Iterator[tuple[Publisher, DatasetEntry]]:
    made = Publisher()
    with serving(made.answer) as address:
        file = Download("smsspamcollection.zip", f"http://{address}/sms.zip")
        yield made, replace(find_dataset("sms"), downloads=(file,), digests=())


def test_a_download_is_kept_in_the_cache_and_read(
    publisher: tuple[Publisher, DatasetEntry], tmp_path: Path, get: Callable[..., Got]
) -> None:
    server, entry = publisher
    assert cached_folder(entry, tmp_path) is None
    folder = fetch_dataset(entry, tmp_path, offline=False)
    assert folder == tmp_path / "datasets" / "sms" == cached_folder(entry, tmp_path)
    assert fetch_dataset(entry, tmp_path, offline=True) == folder
    assert len(server.ranges) == 1
    assert len(get("sms", folder).all_rows) == 4
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == ["sms"]


def test_a_download_that_breaks_off_is_resumed(publisher: tuple[Publisher, DatasetEntry], tmp_path: Path) -> None:
    server, entry = publisher
    server.breaks = 2
    folder = fetch_dataset(entry, tmp_path, offline=False)
    assert server.ranges == [None, "bytes=5000-", "bytes=10000-"]
    assert (folder / "smsspamcollection.zip").read_bytes() == server.content


@pytest.mark.parametrize("tag", ['"two"', ""])
def test_another_file_at_the_address_is_read_from_its_beginning(
    tag: str, publisher: tuple[Publisher, DatasetEntry], tmp_path: Path
) -> None:
    server, entry = publisher
    server.breaks, server.tag, server.content = 5, server.tag if tag else "", server.content + bytes(30_000)
    with pytest.raises(MissingPart, match="broke off 5 times") as caught:
        fetch_dataset(entry, tmp_path, offline=False)
    assert "resumes" in str(caught.value.hint)
    assert cached_folder(entry, tmp_path) is None
    server.tag, server.content = tag, packed()[::-1]
    folder = fetch_dataset(entry, tmp_path, offline=False)
    assert (folder / "smsspamcollection.zip").read_bytes() == server.content


def test_the_next_run_resumes(publisher: tuple[Publisher, DatasetEntry], tmp_path: Path) -> None:
    server, entry = publisher
    server.breaks, server.content = 5, server.content + bytes(30_000)
    with pytest.raises(MissingPart):
        fetch_dataset(entry, tmp_path, offline=False)
    fetch_dataset(entry, tmp_path, offline=False)
    assert server.ranges[-1] == "bytes=25000-"


def test_wrong_bytes_are_removed(publisher: tuple[Publisher, DatasetEntry], tmp_path: Path) -> None:
    server, entry = publisher
    digest = hashlib.sha256(server.content).hexdigest()
    right = replace(entry, digests=(DatasetFile("smsspamcollection.zip", digest, "this test"),))
    wrong = replace(entry, digests=(DatasetFile("smsspamcollection.zip", "0" * 64, "this test"),))
    with pytest.raises(MissingPart, match="expected SHA-256 0000"):
        fetch_dataset(wrong, tmp_path, offline=False)
    assert not list(tmp_path.rglob("*.zip"))
    assert cached_folder(wrong, tmp_path) is None
    fetch_dataset(right, tmp_path, offline=False)
    assert cached_folder(right, tmp_path)


def test_a_server_that_refuses(publisher: tuple[Publisher, DatasetEntry], tmp_path: Path) -> None:
    server, entry = publisher
    server.status = 403
    with pytest.raises(MissingPart, match=r"sms.zip cannot be downloaded: answered 403") as caught:
        fetch_dataset(entry, tmp_path, offline=False)
    assert "get it by hand" in str(caught.value.hint)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    entry = replace(find_dataset("sms"), downloads=(Download("a.zip", "http://127.0.0.1:1/a.zip"),), digests=())
    with pytest.raises(MissingPart, match="not reachable"):
        fetch_dataset(entry, tmp_path, offline=False)
