"""A store that an earlier version made is migrated, and gives the verdicts that it gave before.

`stores/schema-3.sql` is a dump of a store made by commit 44e5e50 (`learn` of two small files, then `judge`), without
its fitted trees, which take 5 MB; `schema-3-verdicts.json` are the verdicts that the commit gave then.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    BLOB,
    DATETIME,
    Connection,
    DateTime,
    Engine,
    LargeBinary,
    MetaData,
    create_engine,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ProgrammingError

from agent.core.records import Record
from agent.core.requests import JudgeRequest
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from retrieval.errors import StoreFailure
from retrieval.store import engine as engine_module
from retrieval.store.caches import LLMCache
from retrieval.store.engine import open_store
from retrieval.store.schema import HEAD, VERSION_TABLE, llm_cache, metadata, sources, template_verdicts
from retrieval.store.verdicts import History
from tests.conftest import make_settings

STORES = Path(__file__).with_name("stores")
TO_FIRST_VERSION = (
    "ALTER TABLE cases DROP COLUMN times",
    "ALTER TABLE cases DROP COLUMN kind",
    "ALTER TABLE sources RENAME COLUMN models TO field_model",
    "DROP INDEX verdicts_by_time",
)
# called anomalous by that version, which took what is new for a fault
LIKE_NO_CASE = "the power supply has failed"


def old_store(url: str, revision: int = 3) -> str:
    """Make a store of that revision, from the dump; returns its URL."""
    dump, folder = sqlite3.connect(":memory:"), make_url(url).database
    dump.executescript((STORES / "schema-3.sql").read_text(encoding="utf-8"))
    if url.startswith("sqlite"):
        Path(str(folder)).parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(str(folder))) as copy:
            dump.backup(copy)
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    if engine.dialect.name == "postgresql":
        copy_to_postgres(create_engine("sqlite://", creator=lambda: dump), engine)
    with engine.begin() as connection:
        for statement in TO_FIRST_VERSION if revision == 1 else ():
            connection.execute(text(statement))
        connection.execute(text(f"UPDATE schema_version SET version = {min(revision, 3)}"))
    engine.dispose()
    if revision > 3:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine_module, "HEAD", f"{revision:04}")
            open_store(url).dispose()
    return url


def copy_to_postgres(dump: Engine, engine: Engine) -> None:
    """The tables with the types that SQLAlchemy gave them there, and their rows."""
    old = MetaData()
    old.reflect(dump)
    for column in (column for table in old.sorted_tables for column in table.columns):
        column.type = {DATETIME: DateTime(timezone=True), BLOB: LargeBinary()}.get(type(column.type), column.type)
    with dump.connect() as source, engine.begin() as target:
        old.create_all(target)
        for table in old.sorted_tables:
            if rows := source.execute(select(table)).mappings().all():
                target.execute(table.insert(), [dict(row) for row in rows])
        target.execute(text("SELECT setval(pg_get_serial_sequence('cases', 'id'), MAX(id)) FROM cases"))


def differences(engine: Engine) -> list[object]:
    """What differs between the tables in the store and those in `schema`."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": False})
        return list(compare_metadata(context, metadata))


def test_the_newest_migration_is_the_head() -> None:
    scripts = ScriptDirectory(str(Path(engine_module.__file__).with_name("migrations")))
    assert scripts.get_heads() == [HEAD]


def test_a_new_store_has_the_tables_of_the_schema(store_url: str) -> None:
    engine = open_store(store_url)
    assert differences(engine) == []
    engine.dispose()


@pytest.mark.parametrize("version", range(1, int(HEAD)))
def test_a_migrated_store_has_the_tables_of_a_new_one(store_url: str, version: int) -> None:
    migrated = open_store(old_store(store_url, version))
    assert differences(migrated) == []
    assert set(inspect(migrated).get_table_names()) == {*metadata.tables, VERSION_TABLE}
    with migrated.connect() as connection:
        assert connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) == HEAD
        fitted = connection.scalars(select(sources.c.source_model).order_by(sources.c.name)).all()
    # models of the first two are packed in another form: they are fitted again
    assert all(bool(judge) is (version >= 3) for judge in fitted)
    (length,) = (
        column["type"].length for column in inspect(migrated).get_columns("verdicts") if column["name"] == "id"
    )  # type: ignore[attr-defined]
    assert length == 64 or migrated.dialect.name == "sqlite"
    migrated.dispose()


def test_what_was_cached_is_kept(store_url: str) -> None:
    engine = open_store(old_store(store_url))
    assert LLMCache(engine).get("0" * 64) == -1.25
    with engine.connect() as connection:
        assert connection.execute(select(template_verdicts.c.key, template_verdicts.c.body)).all() == [
            ("a" * 64, {"label": "normal"})
        ]
        assert connection.scalar(select(llm_cache.c.used_at)) is not None, "its use is noted"
        judges = connection.scalars(select(sources.c.source_model)).all()
    assert all("nn_distance_quantiles" in judge and "lonely" not in judge for judge in judges)
    engine.dispose()


def test_it_gives_the_verdicts_that_it_gave_before(tmp_path: Path, store_url: str) -> None:
    context = AppContext(make_settings(tmp_path / "home", store=old_store(store_url), model="none"))
    try:
        chain = build(context)
        for source, verdicts in json.loads((STORES / "schema-3-verdicts.json").read_text(encoding="utf-8")).items():
            for old in verdicts:
                new = chain.invoke(JudgeRequest.about(Record.model_validate(old["record"]), source, "facts"))
                if old["record"]["text"] == LIKE_NO_CASE:
                    assert (new.label, "no case is like it" in new.explanation) == ("unsure", True)
                else:
                    assert (new.label, new.probability) == (old["label"], pytest.approx(old["probability"], abs=1e-4))
                assert [near.similarity for near in new.precedents] == [
                    pytest.approx(similarity, abs=1e-5) for _, similarity in old["precedents"]
                ]
                # ids of that version are still found
                kept = History(context.casebook.engine).get(old["id"])
                assert kept is not None
                assert kept["record"] == old["record"]
        # the fingerprint of the embedding model, which did not cover all of the weights, is replaced
        assert context.source("log").embedder == context.embedder().fingerprint
    finally:
        context.close()


def test_processes_that_start_at_once_migrate_once(store_url: str) -> None:
    url = old_store(store_url)
    code = f"from retrieval.store.engine import open_store; open_store({url!r})"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(4)
    ]
    assert [process.communicate(timeout=120)[1] for process in started] == [""] * 4
    engine = open_store(url)
    assert differences(engine) == []
    engine.dispose()


def test_a_version_that_is_replaced_while_it_is_read_is_read_again(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, look, looks = old_store(store_url), engine_module._revision, list[int]()

    def replaced_at_first(connection: Connection) -> tuple[str | None, bool]:
        looks.append(1)
        if len(looks) == 1:
            raise ProgrammingError("SELECT version", {}, Exception("the column does not exist"))
        return look(connection)

    monkeypatch.setattr(engine_module, "_revision", replaced_at_first)
    engine = open_store(url)
    assert differences(engine) == []
    engine.dispose()


def test_a_migration_that_fails_leaves_the_store_as_it_was(store_url: str) -> None:
    url = old_store(store_url)
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE template_verdicts (x INTEGER)"))

    def columns() -> list[list[str]]:
        read = inspect(engine)
        return [[table, *(column["name"] for column in read.get_columns(table))] for table in read.get_table_names()]

    before = columns()
    with pytest.raises(StoreFailure, match=r"cannot be opened.*template_verdicts"):
        open_store(url)
    assert columns() == before
    engine.dispose()


def test_ids_of_removed_cases_are_not_given_again_after_the_migration(store_url: str) -> None:
    """SQLite gave the largest id again when its case was removed, so a change may name an id beyond all cases."""
    url = old_store(store_url)
    before = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with before.begin() as connection:
        connection.execute(text("DELETE FROM cases WHERE id = (SELECT MAX(id) FROM cases)"))
        largest = connection.scalar(text("SELECT MAX(id) FROM cases"))
    before.dispose()
    engine = open_store(url)
    with engine.begin() as connection:
        insert = text(
            "INSERT INTO cases (source, hash, key, label, text, fields, events, occurrences, given_by, given_at) "
            "VALUES ('log', :hash, 'k', 'normal', 't', '{}', '[]', 1, 'b', '2026-01-01 00:00:00') RETURNING id"
        )
        first = connection.scalar(insert, {"hash": "new"})
        connection.execute(text("DELETE FROM cases WHERE id = :id"), {"id": first})
        assert connection.scalar(insert, {"hash": "newer"}) == first + 1
        assert first > largest
        connection.execute(text("DELETE FROM cases WHERE hash = 'newer'"))
    engine.dispose()
