"""`docs/extending.md` adds a working detector in one file: this runs that very text."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.errors import DetectorError
from agent.detectors.registry import installed
from tests.conftest import Run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"


def _block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def _install(folder: Path, module: str, source: str, entry_point: str) -> None:
    """A distribution of one module, as an installer leaves it."""
    name = module.replace("_", "-")
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[precedent.detectors]\n{entry_point}\n", encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose distributions are installed for the time of a test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    installed.cache_clear()
    yield folder
    installed.cache_clear()
    for module in [name for name, module in sys.modules.items() if str(folder) in str(getattr(module, "__file__", ""))]:
        del sys.modules[module]


@pytest.fixture
def knn(site: Path) -> Path:
    entry_point = re.search(r'^nearest_rows = "(.*)"', _block("toml"), re.MULTILINE)
    assert entry_point
    _install(site, "precedent_knn", _block("python"), f"nearest_rows = {entry_point[1]}")
    return site


def _rows(path: Path, seed: int, n: int) -> Path:
    """Rings: an anomaly is near the centre, between normal rows, which few trees cut out of 60 cases."""
    rng = random.Random(seed)
    lines = []
    for i in range(n):
        bad = i % 3 == 0
        radius = rng.uniform(0, 1.5) if bad else rng.uniform(2, 4)
        x = rng.uniform(-radius, radius)
        y = rng.choice([-1, 1]) * (radius**2 - x**2) ** 0.5
        lines.append(json.dumps({"x": x, "y": y, "label": int(bad)}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_detector_of_the_page_is_fitted_fused_explained_and_listed(knn: Path, run: Run, tmp_path: Path) -> None:
    assert len(_block("python").splitlines()) < 60
    options = ("--source", "rings", "--label", "label", "--format", "jsonl")
    assert run("learn", _rows(tmp_path / "learn.jsonl", 1, 240), *options, "--brief", "rings").code == 0
    shown = json.loads(run("sources", "show", "rings", "--json").out)["judge"]
    assert shown["detectors"] == ["nearest_rows"]
    # whether it adds to the built-in neighbours depends on the draw: what proves that is in test_further_signals
    assert shown["without_llm"]["weights"]["nearest_rows"] >= 0
    judged = run("judge", _rows(tmp_path / "judge.jsonl", 2, 60), *options, "--to", "jsonl")
    verdicts = [json.loads(line) for line in judged.out.splitlines()]
    assert len(verdicts) == 60, judged.err
    for verdict in verdicts:
        assert verdict["signals"].keys() == {"language", "neighbours", "novelty", "fields", "nearest_rows"}
        assert re.search(r"of the 9 rows with the nearest numbers \d are anomalous", verdict["explanation"])
    bad = [verdict["signals"]["nearest_rows"] > 0 for verdict in verdicts]
    assert sum(one == (i % 3 == 0) for i, one in enumerate(bad)) > 54


def test_verdicts_say_that_the_package_of_a_detector_was_removed(knn: Path, run: Run, tmp_path: Path) -> None:
    options = ("--source", "rings", "--label", "label", "--format", "jsonl")
    run("learn", _rows(tmp_path / "learn.jsonl", 1, 240), *options, "--brief", "rings")
    for file in sorted(knn.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    installed.cache_clear()
    judged = run("judge", _rows(tmp_path / "judge.jsonl", 2, 6), *options, "--to", "jsonl")
    for line in judged.out.splitlines():
        assert "nearest_rows: the package of this detector is not installed" in json.loads(line)["degraded"]


@pytest.mark.parametrize(
    ("source", "entry_point", "reason"),
    [
        ("import nothing_of_that_name", "broken = broken_one:Detector", "nothing_of_that_name"),
        ("class Detector: name = 'x'", "broken = broken_one:Detector", "has no needs, fit, score"),
        ("", "broken = broken_one:Detector", "Detector"),
        (_block("python").replace('"nearest_rows"', '"fields"'), "broken = broken_one:NearestRows", "is taken"),
        (_block("python").replace('"nearest_rows"', '"No name"'), "broken = broken_one:NearestRows", "identifier"),
    ],
)
def test_a_broken_detector_is_an_error_that_names_its_package(
    site: Path, source: str, entry_point: str, reason: str, run: Run, tmp_path: Path
) -> None:
    _install(site, "broken_one", source, entry_point)
    with pytest.raises(DetectorError, match=rf"(?s)'broken' of the package broken-one 1\.0 failed: .*{reason}"):
        installed()
    learned = run("learn", _rows(tmp_path / "r.jsonl", 1, 30), "--source", "r", "--label", "label", "--brief", "r")
    assert learned.code == 3
    assert "broken-one 1.0" in learned.err
