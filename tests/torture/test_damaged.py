"""Bytes flipped, overwritten and cut off in every file of a data directory.

Verdicts are equal to those of before, or the file and the way back are named: never a traceback, never another verdict.
A few places of each file by default, many by `make torture`.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.core.errors import EXPECTED, translate
from agent.core.requests import JudgeRequest
from agent.core.settings import Settings
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.feedback import correct
from tests.conftest import make_settings
from tests.served import copy_of, learned
from tests.shop import ANOMALOUS, LOG, NEW, NORMAL
from tests.torture.conftest import Figures

__all__ = ["copy_of", "learned"]
TEXTS = (
    NORMAL,
    ANOMALOUS,
    NEW,
    "user 7 logged in from 10.0.0.9",
    *(line.split(" ", 1)[1] for line in LOG.splitlines()[:8]),
)
PLACES = 12 if "PRECEDENT_TORTURE" in os.environ else 2
_DAMAGED = Counter[str]()
Outcome = list[tuple[str, float, tuple[str, ...]]] | str


@pytest.fixture(autouse=True)
def _counted(figures: Figures) -> Iterator[None]:
    yield
    figures("damaged", damages=_DAMAGED.total(), files=len(_DAMAGED), other_verdicts=0, tracebacks=0)


@pytest.fixture(autouse=True)
def _by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.index.synced._SMALL", 0)


def judge(home: Path, **values: object) -> Outcome:
    """The verdicts, or the error as the command line shows it."""
    context = AppContext(make_settings(home, **{"model": "none", **values}))
    try:
        chain = build(context)
        verdicts = [chain.invoke(JudgeRequest(text=text, source="shop")) for text in TEXTS]
        return [(verdict.label, round(verdict.probability, 9), verdict.degraded) for verdict in verdicts]
    except EXPECTED as error:
        expected = translate(error)
        assert expected is not None
        assert expected.exit_code == 3
        return f"{expected}: {expected.hint}"
    finally:
        context.close()


def damaged(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    if chance.random() < 0.3:
        return content[:place]
    length = chance.choice([1, 1, 64, 4_096])
    return content[:place] + bytes(byte ^ 0x5A for byte in content[place : place + length]) + content[place + length :]


def in_files(home: Path, copy: Path, names: list[str]) -> Iterator[tuple[str, Path]]:
    """Copies of a data directory, each with one damage in one file."""
    chance = random.Random(18)
    for name in names:
        for _ in range(PLACES):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(home, copy)
            content = (copy / name).read_bytes()
            if (changed := damaged(content, chance)) != content:
                (copy / name).write_bytes(changed)
                _DAMAGED[name] += 1
                yield name, copy


@pytest.fixture
def closed(copy_of: Callable[..., Settings]) -> tuple[Path, Outcome]:
    """A data directory that was closed, and the verdicts."""
    home = copy_of(model="none").home
    judge(home)
    expected = judge(home)
    assert isinstance(expected, list)
    return home, expected


def names(home: Path) -> list[str]:
    files = (path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file() and path.stat().st_size)
    return sorted(name for name in files if not name.endswith(".lock"))


@pytest.mark.timeout(3_600)
def test_of_a_closed_index(closed: tuple[Path, Outcome], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home, expected = closed
    of_index = [name for name in names(home) if name.startswith("index")]
    assert len(of_index) > 6
    for name, copy in in_files(home, tmp_path / "copy", of_index):
        caplog.clear()
        assert judge(copy) == expected, name
        assert "made again from the store" in caplog.text or name == "index.seal"
        caplog.clear()
        assert judge(copy) == expected
        assert not caplog.text, "it was made again"


@pytest.mark.timeout(3_600)
def test_of_an_index_that_was_not_closed(closed: tuple[Path, Outcome], tmp_path: Path) -> None:
    home, expected = closed
    (home / "index.seal").unlink()
    for name, copy in in_files(home, tmp_path / "copy", [name for name in names(home) if name.startswith("index/")]):
        assert judge(copy) == expected, name


@pytest.mark.timeout(3_600)
def test_of_a_closed_store(closed: tuple[Path, Outcome], tmp_path: Path) -> None:
    home, expected = closed
    of_store = [name for name in names(home) if name.startswith("precedent.db")]
    assert of_store == ["precedent.db", "precedent.db-seal"]
    for name, copy in in_files(home, tmp_path / "copy", of_store):
        outcome = judge(copy)
        if name == "precedent.db":
            assert "precedent.db" in outcome
            assert "precedent restore FILE" in outcome
        else:
            assert outcome == expected


@pytest.mark.timeout(3_600)
def test_of_the_log_of_changes_after_a_kill(
    closed: tuple[Path, Outcome], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home, killed = closed[0], tmp_path / "killed"
    context = AppContext(make_settings(home, model="none"))
    chain = build(context)
    for text in (NEW, NORMAL, ANOMALOUS):
        verdict = chain.invoke(JudgeRequest(text=text, source="shop"))
        context.history.put([verdict.to_stored()])
        correct(context, verdict.id, "normal")
    # what is on the disk at this moment is what a killed process leaves
    shutil.copytree(home, killed, ignore=shutil.ignore_patterns("*.lock", "*-shm"))
    context.close()
    shutil.copytree(killed, tmp_path / "copy")
    expected = judge(tmp_path / "copy")
    assert expected != closed[1]
    with caplog.at_level(logging.WARNING):
        for name, copy in in_files(killed, tmp_path / "copy", ["precedent.db-wal"] * 3):
            caplog.clear()
            outcome = judge(copy)
            if isinstance(outcome, str):
                assert f"{name} is damaged" in outcome
                assert "precedent restore FILE" in outcome
            elif outcome != expected:
                assert "the last change of the store was not written whole" in caplog.text


@pytest.mark.timeout(3_600)
def test_of_a_store_that_was_not_closed_there_is_no_traceback(closed: tuple[Path, Outcome], tmp_path: Path) -> None:
    home, _ = closed
    (home / "precedent.db-seal").unlink()
    for _, copy in in_files(home, tmp_path / "copy", ["precedent.db"] * 4):
        outcome = judge(copy)
        assert isinstance(outcome, list) or "precedent" in outcome
