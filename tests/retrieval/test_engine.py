"""The relational store: opened by many at once, refused when it is newer or none."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from retrieval.errors import StoreFailure
from retrieval.store.engine import open_store
from retrieval.store.schema import HEAD, VERSION_TABLE, llm_cache
from retrieval.store.sources import Sources
from retrieval.store.store_file import check_store_file


def test_a_store_that_a_newer_precedent_wrote_is_refused(store_url: str) -> None:
    engine = open_store(store_url)
    with engine.begin() as connection:
        assert connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) == HEAD
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{int(HEAD) + 1:04}'"))
    engine.dispose()
    with pytest.raises(StoreFailure, match="written by a newer Precedent"):
        open_store(store_url)


@pytest.mark.parametrize(
    "change", ["SET version_num = '0001x'", "SET version_num = ''", "SET version_num = '0000'", ""]
)
def test_a_store_with_a_schema_that_no_precedent_writes_is_refused(store_url: str, change: str) -> None:
    engine = open_store(store_url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} {change}" if change else f"DELETE FROM {VERSION_TABLE}"))
    engine.dispose()
    with pytest.raises(StoreFailure, match="which no Precedent writes"):
        open_store(store_url)


def test_its_folder_is_made(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path / 'a' / 'b' / 'p.db'}").dispose()
    assert (tmp_path / "a" / "b" / "p.db").is_file()


@pytest.mark.parametrize("url", ["no url", "sqlite:////dev/null/p.db", "nosuch://x", "sqlite:///{folder}"])
def test_a_store_that_cannot_be_opened_is_an_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreFailure, match="cannot be opened"):
        open_store(url.format(folder=tmp_path))


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "p.db"
    file.write_bytes(b"something precious " * 100)
    with pytest.raises(StoreFailure, match="cannot be opened"):
        open_store(f"sqlite:///{file}")
    assert file.read_bytes() == b"something precious " * 100


def test_processes_that_start_at_once_open_it_all(store_url: str) -> None:
    code = f"from retrieval.store.engine import open_store; open_store({store_url!r})"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(6)
    ]
    assert [process.communicate(timeout=120)[1] for process in started] == [""] * 6


def test_a_store_that_another_process_changes_is_opened_when_that_is_done(tmp_path: Path) -> None:
    # of a file that is not in WAL mode yet, as old versions left it: SQLite would not wait here
    other = sqlite3.connect(tmp_path / "p.db", check_same_thread=False, isolation_level=None)
    other.execute("CREATE TABLE t (a)")
    other.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.3, other.rollback)
    done.start()
    open_store(f"sqlite:///{tmp_path / 'p.db'}").dispose()
    done.join()
    other.close()


# errors of the database


def test_a_password_is_not_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(StoreFailure, match="cannot be opened") as raised:
        open_store("postgresql+psycopg://me:secret@127.0.0.1:9/none?connect_timeout=1")
    assert "secret" not in str(raised.value)


def test_the_error_names_the_lock(tmp_path: Path) -> None:
    engine = open_store(f"sqlite:///{tmp_path / 'p.db'}")
    other = sqlite3.connect(tmp_path / "p.db")
    other.execute("BEGIN IMMEDIATE")
    with engine.connect() as connection:
        connection.execute(text("PRAGMA busy_timeout=10"))
        with pytest.raises(StoreFailure, match=r"p\.db failed: another process has locked it"):
            connection.execute(insert(llm_cache).values(question="q", log_odds=0.0))
    other.close()
    engine.dispose()


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    engine = open_store(f"sqlite:///{tmp_path / 'p.db'}")
    with engine.connect() as connection:
        pages = connection.scalar(text("PRAGMA page_count"))
        connection.execute(text(f"PRAGMA max_page_count={pages}"))
        with pytest.raises(StoreFailure, match="is full: free some space"):
            connection.execute(insert(llm_cache), [{"question": f"{i:064}", "log_odds": 0.0} for i in range(5_000)])
    engine.dispose()


def test_a_read_only_store_is_named(tmp_path: Path) -> None:
    engine = open_store(f"sqlite:///{tmp_path / 'p.db'}")
    with engine.connect() as connection:
        connection.execute(text("PRAGMA query_only=ON"))
        with pytest.raises(StoreFailure, match="it is read-only"):
            connection.execute(insert(llm_cache).values(question="q", log_odds=0.0))
        connection.execute(text("PRAGMA query_only=OFF"))
    engine.dispose()


def test_any_error_of_the_database_is_a_store_failure(store_url: str) -> None:
    engine = open_store(store_url)
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE sources{'' if engine.dialect.name == 'sqlite' else ' CASCADE'}"))
    with pytest.raises(StoreFailure, match=r'(no such table: sources|"sources" does not exist)'):
        Sources(engine).names()
    engine.dispose()


def test_a_schema_whose_names_are_no_text_is_damage(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path / 'p.db'}").dispose()
    (tmp_path / "p.db-seal").unlink(missing_ok=True)
    content = (tmp_path / "p.db").read_bytes()
    assert b"CREATE TABLE verdicts" in content
    (tmp_path / "p.db").write_bytes(content.replace(b"CREATE TABLE verdicts", b"CREATE TAB\xf5E verdicts"))
    assert check_store_file(tmp_path / "p.db") is not None
    with pytest.raises(StoreFailure, match="the file is damaged"):
        open_store(f"sqlite:///{tmp_path / 'p.db'}")
