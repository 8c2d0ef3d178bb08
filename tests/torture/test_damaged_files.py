"""Bytes flipped and cut off in files beside the data directory: models, the configuration, a stopped run, a backup.

What can be used gives the verdicts, or the output, of before. What cannot is named, with the way back.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.bulk.options import BulkOptions
from agent.bulk.runner import BulkRunner
from agent.core.errors import InputError, MissingPart, UsageError
from agent.core.settings import Settings, settings
from agent.data.read_options import ReadOptions
from agent.pipeline.backup import backup
from agent.pipeline.context import AppContext
from agent.pipeline.restore import restore
from llm.weights.catalog import catalog
from tests.conftest import make_settings
from tests.served import copy_of, learned
from tests.shop import LOG
from tests.torture.conftest import Figures
from tests.torture.test_damaged import damaged, judge

__all__ = ["copy_of", "learned"]
pytestmark = pytest.mark.timeout(3_600)
PLACES = 12 if "PRECEDENT_TORTURE" in os.environ else 1
GGUF, EMBEDDER = "smollm2-135m", "all-MiniLM-L6-v2"
_DAMAGED = Counter[str]()


@pytest.fixture(autouse=True)
def _counted(figures: Figures) -> Iterator[None]:
    yield
    figures("damaged files", damages=_DAMAGED.total(), files=len(_DAMAGED), other_outcomes=0, tracebacks=0)


def each_damage(file: Path, places: int = PLACES) -> Iterator[str]:
    """Damage a file in one place after the other; it is whole again at the end."""
    content, chance = file.read_bytes(), random.Random(file.name)
    stat = file.stat()
    for _ in range(places):
        if (changed := damaged(content, chance)) != content:
            _DAMAGED[file.name] += 1
            file.write_bytes(changed)
            yield f"{file.name}: {len(changed)} of {len(content)} bytes"
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def refusal(action: Callable[[], object], *errors: type[Exception]) -> str | None:
    """What an action says that refuses to be done; None if it is done."""
    try:
        action()
    except errors as error:
        return str(error)
    return None


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A copy of the models that the tests use."""
    for name in (GGUF, EMBEDDER):
        shutil.copytree(Settings().cache / name, tmp_path / "cache" / name)
    return tmp_path / "cache"


def test_of_the_embedding_model(copy_of: Callable[..., Settings], cache: Path) -> None:
    home = copy_of(model="none").home
    expected = judge(home, cache=cache)
    assert isinstance(expected, list)
    for file in catalog()[EMBEDDER].files:
        for where in each_damage(cache / EMBEDDER / file.path):
            outcome = judge(home, cache=cache)
            assert isinstance(outcome, str), where
            assert file.path in outcome
            assert "Delete it and run again to fetch a good one" in outcome
    assert judge(home, cache=cache) == expected


def test_of_the_language_model(copy_of: Callable[..., Settings], cache: Path) -> None:
    home = copy_of().home
    plain = judge(home, model="none", cache=cache)
    assert isinstance(plain, list)
    (file,) = catalog()[GGUF].files
    asked = 0
    for where in each_damage(cache / GGUF / file.path):
        outcome = judge(home, model=f"embedded:{GGUF}", cache=cache)
        assert isinstance(outcome, list), outcome
        assert [verdict[:2] for verdict in outcome] == [verdict[:2] for verdict in plain], where
        for _, _, degraded in outcome:
            asked += bool(degraded)
            assert all(file.path in reason and "Delete it" in reason for reason in degraded), degraded
    assert asked


def test_of_a_language_model_of_ones_own(copy_of: Callable[..., Settings], cache: Path, tmp_path: Path) -> None:
    home, own = copy_of().home, tmp_path / "own.gguf"
    plain = judge(home, model="none", cache=cache)
    (file,) = catalog()[GGUF].files
    (cache / GGUF / file.path).rename(own)
    whole = own.read_bytes()
    # the number of layers, with which llama.cpp ends the process
    place = whole.index(b"llama.block_count") + 21
    refused = 0
    for content in (whole[:place] + b"\xff" * 4 + whole[place + 4 :], *(whole[:cut] for cut in (0, 20_000, -1))):
        own.write_bytes(content)
        outcome = judge(home, model=str(own), cache=cache)
        assert [verdict[:2] for verdict in outcome] == [verdict[:2] for verdict in plain]
        for _, _, degraded in outcome:
            refused += bool(degraded)
            assert all(f"{own} is not loaded" in reason for reason in degraded), degraded
    assert refused
    own.write_bytes(whole)
    for where in each_damage(own):
        # what is flipped among the weights of a file that nobody knows gives other verdicts
        outcome = judge(home, model=str(own), cache=cache)
        assert isinstance(outcome, list), f"{where}: {outcome}"
        for _, _, degraded in outcome:
            # which may be no answers
            named = ["own.gguf" in reason or "the model's reply begins with" in reason for reason in degraded]
            assert all(named), f"{where}: {degraded}"


def test_of_what_is_noted_on_a_model(copy_of: Callable[..., Settings], cache: Path) -> None:
    home = copy_of(model="none").home
    expected = judge(home, cache=cache)
    for note in sorted((cache / "verified").iterdir()):
        for where in each_damage(note):
            assert judge(home, cache=cache) == expected, where


def test_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "precedent.toml"
    file.write_text('model = "none"\nprecedents = 4\nhistory_rows = 1000\nollama_hosts = "http://127.0.0.1:11434"\n')
    monkeypatch.setenv("PRECEDENT_CONFIG", str(file))
    refused = 0
    for where in each_damage(file, 40 * PLACES):
        content, chance = file.read_bytes(), random.Random(where)
        # a letter becomes no letter at all
        place = chance.randrange(len(content) or 1)
        for changed in (content, content[:place] + b"\xf3" + content[place + 1 :]):
            file.write_bytes(changed)
            settings.cache_clear()
            if (said := refusal(settings, UsageError)) is not None:
                refused += 1
                assert str(file) in said, where
    assert refused
    settings.cache_clear()


class Stops:
    """Progress that breaks a run off at the n-th block."""

    def __init__(self, block: int) -> None:
        self.left = block

    def __call__(self, doing: str, *_: object, **__: object) -> None:
        self.left -= doing == "judging"
        if not self.left:
            raise KeyboardInterrupt


def quiet(*_: object, **__: object) -> None:
    pass


@pytest.mark.parametrize("detail", ["compact", "full"])
def test_of_a_run_that_was_stopped(copy_of: Callable[..., Settings], tmp_path: Path, detail: Any) -> None:
    context = AppContext(copy_of(model="none"))
    log, whole, out = tmp_path / "shop.log", tmp_path / "whole.jsonl", tmp_path / "stopped" / "out.jsonl"
    log.write_text("".join(f"{line} {n % 7}\n" for n in range(40) for line in LOG.splitlines()))
    read = ReadOptions.model_validate(context.source("shop").reading)
    options = BulkOptions(files=(str(log),), source="shop", detail=detail, to="jsonl", chunk_size=4_096)

    def runner(progress: Callable[..., None] = quiet) -> BulkRunner:
        return BulkRunner(context, read, options, progress, quiet)

    def lines(file: Path) -> list[dict[str, Any]]:
        return [{**json.loads(line), "elapsed_ms": 0} for line in file.read_text().splitlines()]

    runner().run(whole)
    out.parent.mkdir()
    with pytest.raises(KeyboardInterrupt):
        runner(Stops(2)).run(out)
    left = sorted(out.parent.iterdir())
    assert len(left) == (3 if detail == "compact" else 2)
    shutil.copytree(out.parent, tmp_path / "left")
    refused = 0
    for file in left:
        for where in each_damage(tmp_path / "left" / file.name, 4 * PLACES):
            shutil.rmtree(out.parent)
            shutil.copytree(tmp_path / "left", out.parent)
            if (said := refusal(lambda: runner().run(out, resume=True), UsageError)) is not None:
                refused += 1
                assert file.name in said or "out.jsonl was begun with other" in said, where
                assert "without --resume" in said
            else:
                # what comes after the checkpoint is written again
                assert lines(out) == lines(whole), where
    assert refused
    context.close()


def test_of_a_backup(copy_of: Callable[..., Settings], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home, file, target = copy_of(model="none").home, tmp_path / "backup.zip", tmp_path / "restored"
    expected = judge(home)
    context = AppContext(make_settings(home, model="none"))
    backup(context, file)
    context.close()
    refused = 0
    caplog.set_level(logging.CRITICAL)
    for where in each_damage(file, 10 * PLACES):
        shutil.rmtree(target, ignore_errors=True)
        restored = make_settings(target, model="none")
        if (said := refusal(partial(restore, restored, file), InputError, MissingPart)) is not None:
            refused += 1
            assert str(file) in said, where
            assert not (target / "precedent.db").exists()
        else:
            assert judge(target) == expected, where
    assert refused
