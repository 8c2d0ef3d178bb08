"""A store on a full disk or in a read-only folder: it is read, refuses changes, and takes them again."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, text

from retrieval.errors import NotWritable
from retrieval.store.engine import open_store
from retrieval.store.schema import llm_cache
from tests.disks import SmallDisk, disk, read_only

__all__ = ["disk"]


def _add(engine: Engine, first: int, count: int = 1) -> None:
    rows = [{"question": f"{number:064}", "log_odds": 0.0} for number in range(first, first + count)]
    with engine.begin() as connection:
        connection.execute(insert(llm_cache), rows)


def _count(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM llm_cache")) or 0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a store of one row, closed."""
    engine = open_store(f"sqlite:///{tmp_path / 'home' / 'p.db'}")
    _add(engine, 0)
    engine.dispose()
    return tmp_path / "home"


def test_a_disk_that_fills_up_refuses_changes_until_there_is_room(disk: SmallDisk) -> None:
    engine = open_store(f"sqlite:///{disk.path / 'p.db'}")
    _add(engine, 0)
    disk.fill()
    for _ in range(2):
        with pytest.raises(NotWritable, match=f"the store .* failed: the disk of {disk.path} is full"):
            _add(engine, 1, 5_000)
        assert _count(engine) == 1
    disk.free()
    _add(engine, 1, 5_000)
    assert _count(engine) == 5_001
    engine.dispose()


def test_a_store_is_opened_on_a_full_disk_and_written_to_when_there_is_room(disk: SmallDisk) -> None:
    engine = open_store(url := f"sqlite:///{disk.path / 'p.db'}")
    _add(engine, 0)
    engine.dispose()
    disk.fill()
    engine = open_store(url)
    assert _count(engine) == 1
    with pytest.raises(NotWritable, match=f"the disk of {disk.path} is full: free some space on it"):
        _add(engine, 1)
    assert _count(engine) == 1
    disk.free()
    _add(engine, 1)
    assert _count(engine) == 2
    engine.dispose()


def test_no_store_can_be_made_on_a_full_disk(disk: SmallDisk) -> None:
    disk.fill()
    with pytest.raises(NotWritable, match=f"cannot be opened: the disk of {disk.path} is full"):
        open_store(f"sqlite:///{disk.path / 'p.db'}")
    disk.free()
    engine = open_store(f"sqlite:///{disk.path / 'p.db'}")
    _add(engine, 0)
    engine.dispose()


def test_a_store_in_a_read_only_folder_is_read(home: Path) -> None:
    with read_only(home) as view:
        engine = open_store(f"sqlite:///{view / 'p.db'}")
        assert _count(engine) == 1
        with pytest.raises(NotWritable, match=f"{view} is read-only"):
            _add(engine, 1)
        engine.dispose()


def test_what_another_process_writes_is_seen_through_a_read_only_folder(home: Path) -> None:
    with read_only(home) as view:
        reader = open_store(f"sqlite:///{view / 'p.db'}")
        assert _count(reader) == 1
        writer = open_store(f"sqlite:///{home / 'p.db'}")
        _add(writer, 1)
        assert _count(reader) == 2
        _add(writer, 2)
        assert _count(reader) == 3
        writer.dispose()
        reader.dispose()


def test_no_store_can_be_made_in_a_read_only_folder(tmp_path: Path) -> None:
    (folder := tmp_path / "empty").mkdir()
    with read_only(folder) as view:
        for store in (view / "p.db", view / "home" / "p.db"):
            with pytest.raises(NotWritable, match="is read-only"):
                open_store(f"sqlite:///{store}")
