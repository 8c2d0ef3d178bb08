"""`learn` may be stopped at any moment, by Ctrl-C or `kill -9`; run again, it lost nothing and has nothing twice."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.records import Record
from agent.data.read_options import ReadOptions
from agent.data.readers import RowError
from agent.pipeline.context import AppContext
from agent.training.learn import as_case
from tests.conftest import make_settings

ROOT = Path(__file__).resolve().parents[2]
LABELS = ("normal", "anomalous")
_VERBS = ("opened", "closed", "lost", "found", "moved", "blocked", "renamed", "copied", "dropped", "locked")
_THINGS = ("disk", "socket", "table", "queue", "router", "volume", "sensor", "kernel", "cache", "lease", "token", "fan")
_PLACES = ("cellar", "rack", "attic", "cloud", "office", "harbour", "tower", "garage", "mill", "bakery")
Moment = Callable[["Home"], bool]


class Home:
    """A data directory and the processes that learn into it."""

    def __init__(self, folder: Path, file: Path) -> None:
        self.folder, self.file = folder, file

    def start(self) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PRECEDENT_HOME": str(self.folder),
            "PRECEDENT_OFFLINE": "1",
            "PRECEDENT_MODEL": "none",
        }
        entry = [sys.executable, "-c", "from agent.cli.app import main; main()"]
        return subprocess.Popen(
            [*entry, "learn", str(self.file), "--source", "log", "--label", self.label, "--brief", "a test"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def label(self) -> str:
        return "label" if self.file.suffix == ".jsonl" else "0"

    def stop(self, moment: Moment, how: signal.Signals) -> tuple[int, str]:
        """Learn until ``moment``, stop it there; the exit code (less than 0: the signal) and standard error."""
        learning = self.start()
        deadline = time.monotonic() + 240
        try:
            while not moment(self):
                assert learning.poll() is None, f"it ended before the moment came: {learning.communicate()}"
                assert time.monotonic() < deadline, "the moment never came"
                time.sleep(0.02)
            learning.send_signal(how)
            _, said = learning.communicate(timeout=60)
        finally:
            learning.kill()
        return learning.returncode, said

    def finish(self) -> None:
        learning = self.start()
        try:
            _, said = learning.communicate(timeout=240)
        finally:
            learning.kill()
        assert (learning.returncode, "Traceback" in said) == (0, False), said

    def count(self, query: str, database: str = "precedent.db") -> int:
        """Looks into a database from outside, without a lock; 0 as long as there is nothing to look into."""
        path = self.folder / database
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                return int(connection.execute(query).fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    @property
    def cases(self) -> int:
        return self.count("SELECT count(*) FROM cases")

    @property
    def vectors(self) -> int:
        return self.count("SELECT count(*) FROM vectors")

    @property
    def indexed(self) -> int:
        return self.count("SELECT count(*) FROM vectors WHERE indexed")

    @property
    def in_chroma(self) -> int:
        return self.count("SELECT count(*) FROM embeddings_queue", "index/chroma.sqlite3")


def committing(home: Home) -> bool:
    return home.cases > 0


def embedding(home: Home) -> bool:
    return home.vectors > 0


def indexing(home: Home) -> bool:
    return home.in_chroma > 0


def read(home: Home) -> list[tuple[Record, str]]:
    """The records of its file with their labels."""
    out: list[tuple[Record, str]] = []
    for item in ReadOptions(label=home.label).read(home.file, 65_536):
        assert not isinstance(item, RowError)
        assert item.label is not None
        out.append((item.record, item.label))
    return out


def check(home: Home, tmp_path: Path) -> None:
    """The same as one that nobody interrupted: cases, vectors, index; and everything is found."""
    expected = read(home)
    undisturbed = AppContext(make_settings(tmp_path / "undisturbed"))
    undisturbed.casebook.add("log", (as_case(record, label) for record, label in expected), "file")  # type: ignore[arg-type]
    whole = sorted((case.content_hash, case.label, case.key) for case in undisturbed.casebook.cases("log"))
    undisturbed.close()
    context = AppContext(make_settings(home.folder))
    try:
        book = context.casebook
        assert sorted((case.content_hash, case.label, case.key) for case in book.cases("log")) == whole
        for record, label in expected[:: len(expected) // 7]:
            found = book.find("log", record, record.content_hash, 3)
            assert found.same_content[label] == 1
            assert (found.nearest[0].case.text, found.nearest[0].similarity > 0.9999) == (record.text, True)
            assert {near.case.label for near in found.nearest} == set(LABELS)
        keys = {(key, label) for _, label, key in whole}
        assert home.indexed == home.vectors == len(keys)
        assert book._index.owned()
        for label in LABELS:
            assert book._index.count("log", label) == len([one for one in keys if one[1] == label])
    finally:
        context.close()


@pytest.fixture
def rows(tmp_path: Path) -> Home:
    """6,000 rows of a table, more than are indexed at a time: their vectors take no embedding model."""
    file = tmp_path / "rows.jsonl"
    with file.open("w") as out:
        for i in range(6_000):
            row = {"amount": i * 7 % 6_007, "delay": i % 97, "country": "defrit"[i % 3 :][:2], "label": int(i % 6 == 0)}
            out.write(json.dumps(row) + "\n")
    return Home(tmp_path / "home", file)


@pytest.fixture
def log(tmp_path: Path) -> Home:
    """1,200 lines, each a template of its own, the label in front: more than are embedded at a time."""
    file = tmp_path / "some.log"
    lines = [" ".join(words) for words in itertools.product(_VERBS, _THINGS, _PLACES)]
    file.write_text("".join(f"{'-' if i % 5 else 'ALERT'} {line}\n" for i, line in enumerate(lines)))
    return Home(tmp_path / "home", file)


@pytest.mark.timeout(600)
def test_killed_twice_in_a_row_while_committing_and_while_indexing(rows: Home, tmp_path: Path) -> None:
    assert rows.stop(committing, signal.SIGKILL)[0] == -signal.SIGKILL
    assert 0 < rows.cases <= 6_000
    before = rows.cases
    assert rows.stop(lambda home: home.cases > before or home.vectors > 0, signal.SIGKILL)[0] == -signal.SIGKILL
    assert rows.stop(indexing, signal.SIGKILL)[0] == -signal.SIGKILL
    # the normal ones are in the index and marked so, the anomalous ones are not
    assert rows.stop(lambda home: home.indexed > 0, signal.SIGKILL)[0] == -signal.SIGKILL
    rows.finish()
    check(rows, tmp_path)


@pytest.mark.timeout(600)
def test_killed_while_embedding_and_before_indexing(log: Home, tmp_path: Path) -> None:
    assert log.stop(embedding, signal.SIGKILL)[0] == -signal.SIGKILL
    assert log.cases == 1_200
    assert 0 < log.vectors < 1_200, "it was killed between two chunks"
    before = log.vectors
    assert log.stop(lambda home: home.vectors > before, signal.SIGKILL)[0] == -signal.SIGKILL
    assert log.vectors > before, "what was embedded is not embedded again"
    log.finish()
    check(log, tmp_path)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", [committing, indexing])
def test_ctrl_c_ends_it_without_a_traceback(rows: Home, moment: Moment) -> None:
    code, said = rows.stop(moment, signal.SIGINT)
    assert code == 130
    assert "Traceback" not in said


@pytest.mark.timeout(600)
def test_ctrl_c_says_that_what_is_done_is_kept(rows: Home) -> None:
    _, said = rows.stop(committing, signal.SIGINT)
    assert said.splitlines() == ["stopped; everything done so far is kept, and the same command again continues"]
