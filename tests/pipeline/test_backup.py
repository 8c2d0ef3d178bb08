"""Backups: taken while others write, refused when damaged, and verdicts after a restore are those of before."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.core.errors import InputError, MissingPart, PrecedentError, UsageError
from agent.core.requests import JudgeRequest
from agent.core.settings import Settings
from agent.pipeline.backup import backup, check_backup
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.restore import index_again, restore
from agent.training.feedback import correct
from retrieval.errors import StoreFailure
from retrieval.store.schema import HEAD
from tests.conftest import make_settings
from tests.disks import SmallDisk, disk, read_only
from tests.private_postgres import PrivatePostgres
from tests.retrieval.test_migrations import old_store
from tests.served import copy_of, learned
from tests.shop import ANOMALOUS, NEW, NORMAL

__all__ = ["copy_of", "disk", "learned"]
TEXTS = (NORMAL, ANOMALOUS, NEW, "user 7 logged in from 10.0.0.9", "the payment provider answered late for order 12")
CopyOf = Callable[..., Settings]


@contextmanager
def opened(settings: Settings) -> Iterator[AppContext]:
    context = AppContext(settings)
    try:
        yield context
    finally:
        context.close()


def verdicts(settings: Settings) -> list[tuple[str, float]]:
    with opened(settings) as context:
        judged = [build(context).invoke(JudgeRequest(text=text, source="shop")) for text in TEXTS]
    return [(verdict.label, verdict.probability) for verdict in judged]


def same(left: list[tuple[str, float]], right: list[tuple[str, float]]) -> bool:
    return [label for label, _ in left] == [label for label, _ in right] and all(
        abs(a - b) <= 1e-9 for (_, a), (_, b) in zip(left, right, strict=True)
    )


def names_in(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if not path.name.endswith((".lock", "-shm"))}


@pytest.fixture
def settings(copy_of: CopyOf) -> Settings:
    return copy_of(model="none")


@pytest.fixture
def archive(settings: Settings, tmp_path: Path) -> Path:
    with opened(settings) as context:
        backup(context, tmp_path / "shop.zip")
    return tmp_path / "shop.zip"


def test_what_a_killed_one_left_is_removed(settings: Settings, tmp_path: Path) -> None:
    for place in (tmp_path / "to", tmp_path / "new"):
        (left := place / ".precedent-draft-killed").mkdir(parents=True)
        (left / "owner.lock").touch()
        (left / "precedent.db").write_bytes(b"a copy of the store")
    with opened(settings) as context:
        backup(context, tmp_path / "to" / "shop.zip")
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["shop.zip"]
    assert (tmp_path / "to" / "shop.zip").stat().st_mode & 0o777 == 0o600
    restore(make_settings(tmp_path / "new", model="none"), tmp_path / "to" / "shop.zip")
    assert not list((tmp_path / "new").glob(".precedent-draft-*"))


def test_verdicts_after_a_restore_are_those_of_before(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.index.synced._SMALL", 0)
    tuned = settings.home / "detectors" / "shop" / "tuned" / "Gewürz ✓"
    tuned.mkdir(parents=True)
    (tuned / "weights.bin").write_bytes(bytes(range(256)))
    (settings.home / "detectors" / "shop" / "tuned" / "work").mkdir()
    (settings.home / "detectors" / "shop" / "tuned" / "work" / "checkpoint").write_bytes(b"of a training in progress")
    with opened(settings) as context:
        verdict = build(context).invoke(JudgeRequest(text=NEW, source="shop"))
        context.history.put([verdict.model_dump(mode="json")])
        corrected = correct(context, verdict.id, "normal")
    before = verdicts(settings)
    with opened(settings) as context:
        summary = backup(context, tmp_path / "b.zip")
    assert (summary.sources, summary.files) == ({"shop": 61}, 1)
    assert (tmp_path / "b.zip").stat().st_mode & 0o077 == 0, "it holds records: nobody else may read it"
    other = make_settings(tmp_path / "other", model="none")
    assert restore(other, tmp_path / "b.zip") == (summary, None)
    with opened(other) as context:
        assert index_again(context) == []
        assert sum(context.casebook._index.count("shop", label) for label in ("normal", "anomalous")) > 0
        assert context.history.corrected_to(verdict.id) == "normal"
        change = context.case_rows.last_change(verdict_id=verdict.id)
        assert change is not None
        assert change.case_id == corrected.case_id
    assert same(verdicts(other), before)
    assert (other.home / "detectors" / "shop" / "tuned" / "Gewürz ✓" / "weights.bin").read_bytes() == bytes(range(256))


def test_what_was_there_is_kept(settings: Settings, archive: Path) -> None:
    before = verdicts(settings)
    (settings.home / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty: --force"):
        restore(settings, archive)
    assert same(verdicts(settings), before)
    with opened(settings) as context:
        context.casebook.remove("shop")
        context.casebook.create("later")
    _, kept = restore(settings, archive, overwrite=True)
    assert kept is not None
    assert kept.parent == settings.home.parent
    assert same(verdicts(settings), before)
    assert (settings.home / "notes.txt").read_text() == "mine"
    with closing(sqlite3.connect(kept / "precedent.db")) as old:
        assert old.execute("SELECT name FROM sources").fetchall() == [("later",)]


def test_a_damaged_store_is_kept_and_replaced(settings: Settings, archive: Path) -> None:
    before = verdicts(settings)
    store = settings.home / "precedent.db"
    damaged = b"no store at all" * 1_000
    store.write_bytes(damaged)
    with opened(settings) as context, pytest.raises(StoreFailure, match="is damaged") as failed:
        context.casebook.names()
    assert "precedent restore" in str(failed.value.hint)
    _, kept = restore(settings, archive, overwrite=True)
    assert kept is not None
    assert (kept / "precedent.db").read_bytes() == damaged
    assert same(verdicts(settings), before)


def test_a_home_that_is_in_use_is_refused(settings: Settings, archive: Path, tmp_path: Path) -> None:
    hold = "import sys\nfrom retrieval.store.engine import open_store\nengine = open_store(sys.argv[1])\n"
    hold += "kept = engine.connect()\nprint(flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", hold, settings.store_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(UsageError, match="another Precedent process"):
            restore(settings, archive, overwrite=True)
        process.communicate(b"")
    assert restore(settings, archive, overwrite=True)[1] is not None


def test_an_empty_home_and_an_empty_backup(tmp_path: Path, archive: Path) -> None:
    empty = make_settings(tmp_path / "empty", model="none")
    with opened(empty) as context:
        assert backup(context, tmp_path / "empty.zip").sources == {}
    # what a command has made of an empty home is no reason to refuse
    assert restore(empty, archive)[1] is None
    other = make_settings(tmp_path / "other", model="none")
    assert restore(other, tmp_path / "empty.zip")[1] is None
    with opened(other) as context:
        assert context.casebook.names() == []


def refusal(settings: Settings, archive: Path) -> str | None:
    try:
        restore(settings, archive)
    except (InputError, MissingPart) as error:
        return str(error)
    return None


def test_every_damage_is_refused_or_harmless(archive: Path, settings: Settings, tmp_path: Path) -> None:
    whole, before = archive.read_bytes(), verdicts(settings)
    damaged, other = tmp_path / "damaged.zip", make_settings(tmp_path / "other", model="none")
    refused = 0
    step = max(1, len(whole) // 60)
    for place in [*range(0, len(whole), step), *range(len(whole) - 30, len(whole))]:
        for content in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
            damaged.write_bytes(content)
            if (said := refusal(other, damaged)) is None:
                assert same(verdicts(other), before)
                shutil.rmtree(other.home)
                continue
            refused += 1
            assert str(damaged) in said
            assert not names_in(other.home), "nothing is touched"
    assert refused > 120


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "detectors/../../evil", "detectors/a\\..\\b", "detectors//x", "C:x"]
)
def test_a_name_that_leads_elsewhere_is_refused(archive: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(archive) as whole:
        manifest = json.loads(whole.read("manifest.json"))
        store = whole.read("precedent.db")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    manifest["members"].append({"name": name, "size": 0, "sha256": empty})
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as evil:
        evil.writestr("precedent.db", store)
        evil.writestr(name, b"")
        evil.writestr("manifest.json", json.dumps(manifest))
    other = make_settings(tmp_path / "other", model="none")
    with pytest.raises(InputError, match=r"evil\.zip"):
        restore(other, tmp_path / "evil.zip")
    assert not names_in(other.home)
    assert not (tmp_path / "evil").exists()


def archive_of(store: Path, path: Path, **details: object) -> Path:
    """A backup made by hand of a store."""
    content = store.read_bytes()
    member = {"name": "precedent.db", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {"format": "precedent backup", "version": 1, "schema": HEAD, "created_at": "2026-01-01", "sources": {}}
    with zipfile.ZipFile(path, "w") as made:
        made.write(store, "precedent.db")
        made.writestr("manifest.json", json.dumps({**manifest, **details, "members": [member]}))
    return path


@pytest.mark.parametrize("revision", range(1, int(HEAD)))
def test_a_backup_of_an_older_schema_is_migrated(tmp_path: Path, revision: int) -> None:
    old_store(f"sqlite:///{tmp_path / 'old.db'}", revision)
    made = archive_of(tmp_path / "old.db", tmp_path / "old.zip", schema=f"{revision:04}")
    other = make_settings(tmp_path / "other", model="none")
    restore(other, made)
    with opened(other) as context:
        assert sum(len(context.casebook.cases(name)) for name in context.casebook.names()) > 0


def test_a_backup_of_a_newer_precedent_is_refused(archive: Path, tmp_path: Path) -> None:
    other = make_settings(tmp_path / "other", model="none")
    with zipfile.ZipFile(archive) as whole:
        whole.extract("precedent.db", tmp_path)
    for newer in ({"schema": "0999"}, {"version": 2}):
        with pytest.raises(MissingPart, match="newer Precedent"):
            restore(other, archive_of(tmp_path / "precedent.db", tmp_path / "new.zip", **newer))
    with pytest.raises(InputError, match="no backup of Precedent"):
        check_backup(archive_of(tmp_path / "precedent.db", tmp_path / "new.zip", format="something"))
    with closing(sqlite3.connect(tmp_path / "precedent.db")) as store:
        store.execute("UPDATE schema_version SET version_num = '0999'")
        store.commit()
    with pytest.raises(StoreFailure, match="newer Precedent"):
        restore(other, archive_of(tmp_path / "precedent.db", tmp_path / "new.zip"))
    with closing(sqlite3.connect(tmp_path / "precedent.db")) as store:
        store.execute("CREATE TRIGGER evil AFTER INSERT ON cases BEGIN DELETE FROM verdicts; END")
    with pytest.raises(InputError, match="evil"):
        restore(other, archive_of(tmp_path / "precedent.db", tmp_path / "new.zip"))
    assert not names_in(other.home)


def test_a_disk_that_is_full(settings: Settings, archive: Path, disk: SmallDisk) -> None:
    disk.fill()
    with opened(settings) as context, pytest.raises((PrecedentError, StoreFailure)) as failed:
        backup(context, disk.path / "b.zip")
    assert f"{disk.path}" in str(failed.value)
    assert "is full" in str(failed.value)
    assert [path.name for path in disk.path.iterdir()] == ["filler"], "no half of a file is left"
    with pytest.raises((PrecedentError, StoreFailure), match="is full"):
        restore(make_settings(disk.path / "home", model="none"), archive)
    disk.free()
    assert names_in(disk.path / "home") <= {"index.lock"}


def test_a_read_only_home_is_backed_up(settings: Settings, archive: Path, tmp_path: Path) -> None:
    with read_only(settings.home) as view, opened(settings.model_copy(update={"home": view})) as context:
        assert backup(context, tmp_path / "b.zip").sources == {"shop": 60}
        with pytest.raises(PrecedentError):
            restore(context.settings, archive, overwrite=True)
    check_backup(tmp_path / "b.zip")


def test_a_backup_goes_to_a_database_server_and_back(
    settings: Settings, archive: Path, tmp_path: Path, postgres: PrivatePostgres
) -> None:
    before = verdicts(settings)
    server = make_settings(tmp_path / "server", model="none", store=postgres.empty_database())
    assert restore(server, archive)[1] is None
    with opened(server) as context:
        assert index_again(context) == []
    assert same(verdicts(server), before)
    with opened(server) as context:
        new = build(context).invoke(JudgeRequest(text="a case of its own", source="shop"))
        context.history.put([new.model_dump(mode="json")])
        correct(context, new.id, "normal")
        backup(context, tmp_path / "from-server.zip")
    after = verdicts(server)
    with pytest.raises(UsageError, match="is not empty"):
        restore(server, archive)
    _, kept = restore(server, archive, overwrite=True)
    assert kept is not None
    assert check_backup(kept).sources == {"shop": 61}
    assert same(verdicts(server), before)
    other = make_settings(tmp_path / "other", model="none")
    assert restore(other, tmp_path / "from-server.zip")[0].sources == {"shop": 61}
    assert same(verdicts(other), after)


def test_backups_while_others_learn(settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "many.jsonl"
    log.write_text("".join(json.dumps({"amount": n * 7 % 3_001, "label": n % 5 == 0}) + "\n" for n in range(12_000)))
    environment = {
        **os.environ,
        "PRECEDENT_HOME": str(settings.home),
        "PRECEDENT_MODEL": "none",
        "PRECEDENT_OFFLINE": "1",
    }
    command = [sys.executable, "-c", "from agent.cli.app import main; main()", "learn", str(log), "--source", "many"]
    counts = []
    with subprocess.Popen([*command, "--label", "label", "--brief", "x"], env=environment) as learning:
        while learning.poll() is None:
            with opened(settings) as context:
                summary = backup(context, tmp_path / "b.zip", overwrite=True)
            assert check_backup(tmp_path / "b.zip") == summary
            counts.append(summary.sources.get("many", 0))
    assert learning.returncode == 0
    assert counts == sorted(counts)
    assert any(0 < count < 12_000 for count in counts) or len(counts) > 2
