"""`precedent backup` and `precedent restore`, their exit codes, and what `doctor` says of damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.served import learned

__all__ = ["learned"]


@pytest.fixture
def home(tmp_path: Path, learned: Path, run: Run) -> Path:
    shutil.copytree(learned, tmp_path / "home", ignore=shutil.ignore_patterns("*.lock"))
    return tmp_path / "home"


@pytest.mark.network
@pytest.mark.enable_socket
def test_there_and_back(run: Run, home: Path, tmp_path: Path) -> None:
    result = run("backup", "b.zip")
    assert result.code == 0, result.err
    assert result.out.startswith("1 source with 60 cases are in b.zip")
    assert run("backup", "b.zip").code == 2
    assert run("backup", "b.zip", "--force").code == 0
    assert "b.zip is whole: 1 source with 60 cases, of 20" in run("restore", "b.zip", "--check").out
    refused = run("restore", "b.zip")
    assert refused.code == 2
    assert "--force" in refused.err
    (home / "precedent.db").write_bytes(b"damaged" * 1_000)
    doctor = run("doctor")
    assert doctor.code == 3
    assert "precedent restore FILE" in doctor.out
    restored = run("restore", "b.zip", "--force")
    assert restored.code == 0, restored.err
    assert "1 source with 60 cases of 20" in restored.out
    assert f"what was there before is in {tmp_path / 'home.before-restore-'}" in restored.out
    assert "shop" in run("sources").out
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.network
@pytest.mark.enable_socket
def test_doctor_finds_damaged_pages(run: Run, home: Path) -> None:
    assert run("sources").code == 0
    store = home / "precedent.db"
    content = bytearray(store.read_bytes())
    # the header of every page but the first
    for start in range(4_096, len(content), 4_096):
        content[start : start + 8] = b"\xff" * 8
    store.write_bytes(content)
    doctor = run("doctor")
    assert doctor.code == 3
    assert "damaged" in doctor.out
    assert "precedent restore FILE" in doctor.out


@pytest.mark.parametrize(("name", "reason"), [("-", "standard output"), ("no/such/folder/b.zip", "cannot be written")])
def test_where_nothing_can_be_written(run: Run, home: Path, name: str, reason: str) -> None:
    result = run("backup", name)
    assert result.code == 2
    assert reason in result.err


@pytest.mark.parametrize("content", [None, b"", b"no backup", b"PK\x03\x04"])
def test_what_is_no_backup(run: Run, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "b.zip").write_bytes(content)
    for options in ([], ["--check"], ["--force"]):
        result = run("restore", "b.zip", *options)
        assert result.code == 2
        assert result.err.startswith("error: b.zip: ")
        assert "Traceback" not in result.err
    assert not (tmp_path / "home").exists()


def test_a_folder_is_no_file(run: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for command in (["backup", "folder", "--force"], ["restore", "folder"]):
        result = run(*command)
        assert result.code == 2, result.err
        assert "folder" in result.err
