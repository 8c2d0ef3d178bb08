"""Every byte of a file that grows is read once, in order, across rotation, truncation and restarts."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from agent.data import follow as follow_module
from agent.data import tail
from agent.data.follow import Follower, find_files
from agent.data.tail import Position


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(follow_module, "SCAN_SECONDS", 0.0)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def add(path: Path, *lines: str, mtime: int = 0) -> None:
    with path.open("a") as stream:
        stream.write("".join(f"{line}\n" for line in lines))
    if mtime:
        os.utime(path, (mtime, mtime))


def take(follower: Follower) -> list[str]:
    follower.refresh()
    return list(_lines(follower))


def _lines(follower: Follower) -> Iterator[str]:
    for followed in follower.tails.values():
        for file in followed.files:
            data = file.read(1 << 20)
            file.advance(len(data), data.count(b"\n"))
            yield from data.decode().splitlines()


def follow(path: Path, positions: list[Position] | None = None, **options: bool) -> Follower:
    return Follower((str(path),), positions or [], **options)


def restarted(follower: Follower) -> Follower:
    """As after a crash: only the positions are left, as JSON."""
    positions = [Position.model_validate_json(position.model_dump_json()) for position in follower.state()]
    follower.close()
    return Follower(follower.names, positions)


def test_what_is_added_comes_once(log: Path) -> None:
    follower = follow(log)
    assert take(follower) == []
    add(log, "a", "b")
    assert take(follower) == ["a", "b"]
    assert take(follower) == []
    add(log, "c")
    assert take(follower) == ["c"]
    assert follower.state()[0].line == 4


@pytest.mark.parametrize("restart", [False, True])
def test_renamed_and_created(log: Path, restart: bool) -> None:
    follower = follow(log)
    add(log, "a", "b")
    assert take(follower) == ["a", "b"]
    add(log, "c")
    log.rename(log.with_name("app.log.1"))
    add(log, "d")
    follower = restarted(follower) if restart else follower
    assert take(follower) == ["c", "d"]
    assert follower.state()[-1].line == 2
    add(log, "e")
    assert take(restarted(follower)) == ["e"]


@pytest.mark.parametrize("restart", [False, True])
def test_two_rotations_between_two_looks(log: Path, restart: bool) -> None:
    follower = follow(log)
    add(log.with_name("app.log.9"), "ancient", mtime=1_000)
    add(log, "a")
    assert take(follower) == ["a"]
    add(log, "b", mtime=2_000)
    log.rename(log.with_name("app.log.2"))
    add(log, "c", mtime=3_000)
    log.rename(log.with_name("app.log.1"))
    add(log, "d")
    follower = restarted(follower) if restart else follower
    assert take(follower) == ["b", "c", "d"]
    assert take(follower) == []
    assert take(restarted(follower)) == []


@pytest.mark.parametrize("restart", [False, True])
def test_copied_and_truncated(log: Path, restart: bool) -> None:
    follower = follow(log)
    add(log, "a", "b")
    assert take(follower) == ["a", "b"]
    add(log, "c")
    shutil.copy2(log, log.with_name("app.log.1"))
    os.truncate(log, 0)
    add(log, "d")
    follower = restarted(follower) if restart else follower
    assert take(follower) == ["c", "d"]
    assert take(follower) == []
    add(log, "e")
    assert take(follower) == ["e"]


def test_a_copy_that_somebody_made_is_not_read(log: Path) -> None:
    follower = follow(log)
    add(log, "a", "b", mtime=2_000)
    assert take(follower) == ["a", "b"]
    shutil.copy(log, log.with_name("app.log.bak"))
    log.rename(log.with_name("app.log.1"))
    add(log, "c")
    assert take(follower) == ["c"]


def test_truncated_and_grown_beyond_where_it_was(log: Path) -> None:
    follower = follow(log)
    add(log, "a", "b")
    assert take(follower) == ["a", "b"]
    os.truncate(log, 0)
    add(log, "x", "y", "z", "zz")
    assert take(follower) == ["x", "y", "z", "zz"]


PACKERS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
    "frames.zst": lambda data: b"".join(
        zstandard.ZstdCompressor().compress(data[i : i + 3]) for i in range(0, len(data), 3)
    ),
}


@pytest.mark.parametrize("ending", PACKERS)
def test_rotated_and_packed_while_nobody_looked(log: Path, ending: str) -> None:
    follower = follow(log)
    add(log, "a", "b" * 2_000)
    assert take(follower) == ["a", "b" * 2_000]
    add(log, "c")
    log.with_name(f"app.log.1.{ending}").write_bytes(PACKERS[ending](log.read_bytes()))
    log.unlink()
    add(log, "d")
    assert take(restarted(follower)) == ["c", "d"]


@pytest.mark.parametrize("ending", PACKERS)
def test_a_packed_file_that_is_cut_off_is_not_the_one_that_is_gone(log: Path, ending: str) -> None:
    follower = follow(log)
    add(log, "a", "b" * 2_000)
    take(follower)
    log.with_name(f"app.log.1.{ending}").write_bytes(PACKERS[ending](log.read_bytes())[:10])
    log.unlink()
    add(log, "d")
    follower = restarted(follower)
    assert take(follower) == ["d"]
    assert any("is gone" in note for note in follower.take_notes())


def test_a_pipe_is_named_and_not_waited_for(log: Path) -> None:
    os.mkfifo(log)
    follower = follow(log)
    assert take(follower) == []
    (note,) = follower.take_notes()
    assert f"cannot be followed: it is a pipe, which cannot be read again; `precedent watch - < {log}` judges" in note
    log.unlink()
    add(log, "a")
    assert take(follower) == ["a"]


def test_what_is_gone_is_said(log: Path) -> None:
    follower = follow(log)
    add(log, "a", "b")
    take(follower)
    log.unlink()
    add(log, "new")
    follower = restarted(follower)
    assert take(follower) == ["new"]
    assert "line 2 is gone" in follower.take_notes()[0]


def test_the_old_file_may_be_written_to_for_a_moment(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "GRACE_SECONDS", 60.0)
    follower = follow(log)
    add(log, "a")
    take(follower)
    rotated = log.with_name("app.log.1")
    log.rename(rotated)
    add(log, "b")
    assert take(follower) == ["b"]
    add(rotated, "late")
    assert take(follower) == ["late"]


def test_from_the_end(log: Path) -> None:
    add(log, "a", "b")
    follower = follow(log, at_end=True)
    assert take(follower) == []
    add(log, "c")
    assert take(follower) == ["c"]
    assert follower.state()[0].line == 4


def test_files_of_a_folder_and_new_ones(tmp_path: Path) -> None:
    for name in ("a.log", "b.txt", ".hidden", "a.log.1", "c.log.gz", "sub/d.log", "e-2026-01-01.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        add(tmp_path / name, name, mtime=1_000)
    names = [Path(name).relative_to(tmp_path).as_posix() for name in find_files([str(tmp_path)])]
    assert names == ["a.log", "b.txt", "e-2026-01-01.log", "sub/d.log"]
    follower = follow(tmp_path)
    assert sorted(take(follower)) == sorted(names)
    add(tmp_path / "new.log", "n")
    assert take(follower) == ["n"]
    (tmp_path / "a.log").rename(tmp_path / "a.log.2")
    add(tmp_path / "a.log", "again")
    assert take(follower) == ["again"]
    assert list(find_files([str(tmp_path / "*.txt"), "later.log"])) == [str(tmp_path / "b.txt"), "later.log"]


def test_a_folder_in_place_of_the_file_is_named_once_until_it_changes(log: Path) -> None:
    add(log, "one")
    follower = follow(log)
    assert take(follower) == ["one"]
    log.unlink()
    for _ in range(2):
        log.mkdir()
        for _ in range(3):
            assert take(follower) == []
        assert follower.take_notes() == [f"{log} cannot be opened: Is a directory"]
        log.rmdir()
        add(log, "two")
        assert take(follower) == ["two"]
        log.unlink()
