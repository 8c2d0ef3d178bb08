"""A store that an earlier version made is migrated, and gives the verdicts that it gave before.

`stores/schema-3.sql` is a dump of a store made by commit 44e5e50 (`learn` of two small files, then `judge`), without
its fitted trees, which take 5 MB; `schema-3-verdicts.json` are the verdicts that the commit gave then.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, select, text

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
# what tells the versions apart
DOWN = {3: (), 2: (), 1: TO_FIRST_VERSION}


def old_store(folder: Path, version: int = 3) -> str:
    """The URL of a store of that schema, made from the dump."""
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "precedent.db")
    connection.executescript((STORES / "schema-3.sql").read_text(encoding="utf-8"))
    for statement in (*DOWN[version], f"UPDATE schema_version SET version = {version}"):
        connection.execute(statement)
    connection.commit()
    connection.close()
    return f"sqlite:///{folder / 'precedent.db'}"


def differences(engine: Engine) -> list[object]:
    """What differs between the tables in the store and those in `schema`."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": False})
        return list(compare_metadata(context, metadata))


def test_the_newest_migration_is_the_head() -> None:
    scripts = ScriptDirectory(str(Path(engine_module.__file__).with_name("migrations")))
    assert scripts.get_heads() == [HEAD]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_migrated_store_has_the_tables_of_a_new_one(tmp_path: Path, version: int) -> None:
    migrated, new = open_store(old_store(tmp_path, version)), open_store(f"sqlite:///{tmp_path / 'new.db'}")
    assert differences(migrated) == differences(new) == []
    assert set(inspect(migrated).get_table_names()) == {*metadata.tables, VERSION_TABLE}
    with migrated.connect() as connection:
        assert connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) == HEAD
        fitted = connection.scalars(select(sources.c.source_model).order_by(sources.c.name)).all()
    # models of the first two are packed in another form: they are fitted again
    assert all(bool(judge) is (version == 3) for judge in fitted)
    migrated.dispose()
    new.dispose()


def test_what_was_cached_is_kept(tmp_path: Path) -> None:
    engine = open_store(old_store(tmp_path))
    assert LLMCache(engine).get("0" * 64) == -1.25
    with engine.connect() as connection:
        assert connection.execute(select(template_verdicts.c.key, template_verdicts.c.body)).all() == [
            ("a" * 64, {"label": "normal"})
        ]
        assert connection.scalar(select(llm_cache.c.used_at)) is not None, "its use is noted"
        judges = connection.scalars(select(sources.c.source_model)).all()
    assert all("nn_distance_quantiles" in judge and "lonely" not in judge for judge in judges)
    engine.dispose()


def test_it_gives_the_verdicts_that_it_gave_before(tmp_path: Path) -> None:
    old_store(tmp_path / "home")
    context = AppContext(make_settings(tmp_path / "home", model="none"))
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


def test_processes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    url = old_store(tmp_path)
    code = f"from retrieval.store.engine import open_store; open_store({url!r})"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(4)
    ]
    assert [process.communicate(timeout=120)[1] for process in started] == [""] * 4
    engine = open_store(url)
    assert differences(engine) == []
    engine.dispose()


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    url = old_store(tmp_path)
    connection = sqlite3.connect(tmp_path / "precedent.db")
    connection.execute("CREATE TABLE template_verdicts (x INTEGER)")
    connection.commit()
    connection.close()
    before = (
        sqlite3.connect(tmp_path / "precedent.db").execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
    )
    with pytest.raises(StoreFailure, match=r"cannot be opened.*template_verdicts"):
        open_store(url)
    after = (
        sqlite3.connect(tmp_path / "precedent.db").execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
    )
    assert after == before


def test_ids_of_removed_cases_are_not_given_again_after_the_migration(tmp_path: Path) -> None:
    """SQLite gave the largest id again when its case was removed, so a change may name an id beyond all cases."""
    url = old_store(tmp_path)
    store = sqlite3.connect(tmp_path / "precedent.db")
    store.execute("DELETE FROM cases WHERE id = (SELECT MAX(id) FROM cases)")
    (largest,) = store.execute("SELECT MAX(id) FROM cases").fetchone()
    store.commit()
    store.close()
    engine = open_store(url)
    with engine.begin() as connection:
        (count,) = connection.execute(text("SELECT COUNT(*) FROM cases")).one()
        assert count == largest
        insert = text(
            "INSERT INTO cases (source, hash, key, label, text, fields, events, occurrences, given_by, given_at) "
            "VALUES ('log', :hash, 'k', 'normal', 't', '{}', '[]', 1, 'b', '2026-01-01 00:00:00') RETURNING id"
        )
        first = connection.scalar(insert, {"hash": "new"})
        connection.execute(text("DELETE FROM cases WHERE id = :id"), {"id": first})
        assert connection.scalar(insert, {"hash": "newer"}) == first + 1 == largest + 2
        connection.execute(text("DELETE FROM cases WHERE hash = 'newer'"))
    engine.dispose()
