"""The relational store: opened by many at once, refused when it is newer or none."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, inspect, select, text, update

from retrieval.errors import StoreFailure
from retrieval.store.schema import SCHEMA_VERSION, cases, open_store, schema, sources


def test_a_store_that_a_newer_precedent_wrote_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'p.db'}"
    engine = open_store(url)
    with engine.begin() as connection:
        assert connection.scalar(select(schema.c.version)) == SCHEMA_VERSION
        connection.execute(update(schema).values(version=SCHEMA_VERSION + 1))
    engine.dispose()
    with pytest.raises(StoreFailure, match="written by a newer Precedent"):
        open_store(url)


def test_a_store_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'p.db'}"
    engine = open_store(url)
    kept = {"name": "s", "brief": "", "brief_by": "nobody", "version": 1, "created_at": datetime.now(UTC)}
    case = {"source": "s", "hash": "h", "key": "k", "label": "normal", "text": "t", "fields": {}, "events": []}
    with engine.begin() as connection:
        connection.execute(insert(sources).values(kept))
        connection.execute(insert(cases).values(**case, given_by="file", given_at=datetime.now(UTC)))
        for change in (
            "cases DROP COLUMN times",
            "cases DROP COLUMN kind",
            "sources RENAME COLUMN models TO field_model",
        ):
            connection.execute(text(f"ALTER TABLE {change}"))
        connection.execute(text("DROP INDEX verdicts_by_time"))
        connection.execute(update(schema).values(version=1))
    engine.dispose()
    engine = open_store(url)
    with engine.connect() as connection:
        assert connection.execute(select(cases.c.text, cases.c.times)).all() == [("t", 1)]
        assert connection.scalar(select(schema.c.version)) == SCHEMA_VERSION
    assert [one["name"] for one in inspect(engine).get_indexes("verdicts")] == ["verdicts_by_time"]
    engine.dispose()


def test_its_folder_is_made(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path / 'a' / 'b' / 'p.db'}").dispose()
    assert (tmp_path / "a" / "b" / "p.db").is_file()


@pytest.mark.parametrize("url", ["no url", "sqlite:////dev/null/p.db", "nosuch://x", "sqlite:///{folder}"])
def test_what_cannot_be_opened_is_said(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreFailure, match="cannot be opened"):
        open_store(url.format(folder=tmp_path))


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "p.db"
    file.write_bytes(b"something precious " * 100)
    with pytest.raises(StoreFailure, match="cannot be opened"):
        open_store(f"sqlite:///{file}")
    assert file.read_bytes() == b"something precious " * 100


def test_processes_that_start_at_once_open_it_all(tmp_path: Path) -> None:
    code = f"from retrieval.store.schema import open_store; open_store('sqlite:///{tmp_path / 'p.db'}')"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(6)
    ]
    assert [process.communicate(timeout=120)[1] for process in started] == [""] * 6
