"""The store on a real PostgreSQL: a private server on a Unix socket; skips, saying so, where none can be started."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, select, text

from agent.core.records import Record
from examples.postgres.cluster import RecorderError, find_programs
from retrieval.casebook import Casebook
from retrieval.errors import StoreFailure
from retrieval.store.caches import LLMCache, TemplateVerdicts
from retrieval.store.engine import open_store
from retrieval.store.schema import HEAD, VERSION_TABLE, metadata, sources
from retrieval.store.verdicts import History
from tests.conftest import missing

from .making import find, payment, table, with_cases
from .test_copying import publish_from_a_copy
from .test_migrations import differences
from .test_verdicts import alike, body

# what revision 0004 changed, undone
TO_SCHEMA_3 = f"""
DROP TABLE case_changes; DROP TABLE watches; DROP TABLE live_counts; DROP TABLE live_groups;
DROP TABLE earlier_fits; DROP TABLE ended_sessions;
ALTER TABLE llm_cache RENAME TO heard; ALTER TABLE template_verdicts RENAME TO remembered;
DROP INDEX ix_llm_cache_used_at; ALTER TABLE heard DROP COLUMN used_at;
ALTER TABLE sources DROP COLUMN revision; ALTER TABLE sources RENAME representation TO space;
ALTER TABLE sources RENAME source_model TO judge; ALTER TABLE cases DROP COLUMN series;
ALTER TABLE cases RENAME label_value TO kind;
ALTER TABLE cases RENAME occurrences TO times; ALTER TABLE verdicts ALTER COLUMN id TYPE VARCHAR(32);
DROP TABLE {VERSION_TABLE}; CREATE TABLE {VERSION_TABLE} (version INTEGER PRIMARY KEY);
INSERT INTO {VERSION_TABLE} VALUES (3)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    """The folder of the server's socket."""
    try:
        programs = find_programs()
        owner = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else os.geteuid()
    except (RecorderError, KeyError) as error:
        missing("postgres", f"no PostgreSQL to test with: {error}")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    os.chown(folder, owner, -1)
    as_owner = {"user": owner} if os.geteuid() == 0 else {}
    made = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder, **as_owner)  # type: ignore[call-overload]
    options = ["-D", str(folder / "data"), "-k", str(folder), "-h", "", "-F"]
    process = subprocess.Popen(
        [str(programs / "postgres"), *options], stderr=subprocess.DEVNULL, cwd=folder, **as_owner
    )  # type: ignore[call-overload]
    for _ in range(300):
        if (folder / ".s.PGSQL.5432").exists():
            break
        time.sleep(0.1)
    yield folder
    process.terminate()
    process.wait(timeout=60)
    shutil.rmtree(folder)


@pytest.fixture
def url(server: Path, request: pytest.FixtureRequest) -> str:
    """An empty database."""
    admin = open_admin(server)
    name = f"test_{abs(hash(request.node.name))}"
    with admin.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return f"postgresql+psycopg://postgres@/{name}?host={server}"


def open_admin(server: Path) -> Engine:
    from sqlalchemy import create_engine

    for _ in range(100):
        engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={server}")
        try:
            engine.connect().close()
        except Exception:
            time.sleep(0.1)
        else:
            return engine
    raise AssertionError("the server does not answer")


def test_a_casebook_and_its_history(url: str, tmp_path: Path) -> None:
    book = Casebook(tmp_path, url, lambda: None)  # type: ignore[arg-type,return-value]
    with_cases(book, "log", table())
    result = find(book, "log", payment(1105.0, "xx"))
    assert result.nearest[0].case.label == "anomalous"
    with_cases(book, "log", table()[:5])
    book.relabel("log", table()[0], "a person")
    assert find(book, "log", Record(text="x", fields={"amount": 3.0})).nearest
    history = History(book.engine)
    long = {**body(1), "id": "v" + "0" * 32}
    history.put([long, body(2)])
    history.put([{**long, "label": "unsure"}])
    history.put_alike([alike(3, '{"like": "v2", "record": {"text": "é"}}')])
    assert (history.get("v3") or {})["explanation"] == body(2)["explanation"]
    with pytest.raises(StoreFailure, match="about another record"):
        history.put([{**body(4), "id": "v2"}])
    assert history.prune(max_rows=1) == 1, "v2 stays for v3"
    cache = LLMCache(book.engine)
    cache.put("q", 1.5)
    cache.put("r", 2.5)
    assert cache.get("q") == 1.5
    assert cache.prune(max_rows=1) == 1
    TemplateVerdicts(book.engine, "log", "state").put({"k": {"label": "normal"}})
    assert TemplateVerdicts(book.engine, "log", "state").get(["k"]) == {"k": {"label": "normal"}}
    book.remove("log")
    book.close()


def test_a_source_is_copied_and_a_fit_of_the_copy_published(url: str, tmp_path: Path) -> None:
    publish_from_a_copy(Casebook(tmp_path, url, lambda: None), tmp_path)  # type: ignore[arg-type,return-value]


def test_a_store_of_the_version_before_is_migrated(url: str) -> None:
    engine = open_store(url)
    with engine.begin() as connection:
        connection.execute(
            sources.insert().values(name="s", source_model={"lonely": [0.5], "keys": 1}, created_at=text("now()"))
        )
        for statement in TO_SCHEMA_3.split(";"):
            connection.execute(text(statement))
    engine.dispose()
    engine = open_store(url)
    with engine.connect() as connection:
        assert connection.scalar(select(sources.c.source_model)) == {"nn_distance_quantiles": [0.5], "templates": 1}
        assert connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) == HEAD
    assert differences(engine) == []
    assert set(inspect(engine).get_table_names()) == {*metadata.tables, VERSION_TABLE}
    assert next(c for c in inspect(engine).get_columns("verdicts") if c["name"] == "id")["type"].length == 64  # type: ignore[attr-defined]
    engine.dispose()


def test_a_server_that_is_read_only_is_named(url: str) -> None:
    open_store(url).dispose()
    engine = open_store(url + "&options=-c%20default_transaction_read_only%3Don")
    with pytest.raises(StoreFailure, match="it is read-only"):
        LLMCache(engine).put("q", 1.0)
    engine.dispose()
