"""The table of systems on files of the test's own."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from agent.core.settings import settings
from benchmarks.systems import __main__ as systems


def _rows(path: Path, seed: int, n: int) -> Path:
    rng = random.Random(seed)
    lines = ["x,y,label"]
    for i in range(n):
        bad = i % 4 == 0
        x = rng.uniform(1, 9)
        lines.append(f"{x:.3f},{(-40 if bad else 2 * x + rng.gauss(0, 0.2)):.3f},{'bad' if bad else 'fine'}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_every_system_is_a_row_and_what_does_not_apply_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRECEDENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRECEDENT_OFFLINE", "1")
    settings.cache_clear()
    files = [str(_rows(tmp_path / "l.csv", 1, 120)), str(_rows(tmp_path / "j.csv", 2, 40))]
    output = tmp_path / "systems.md"
    systems.main(
        ["--file", *files, "--label", "label", "--normal", "fine", "--systems", "knn,zeroshot,forest,precedent",
         "--limit", "40", "--output", str(output)]
    )  # fmt: skip
    table = output.read_text(encoding="utf-8")
    rows = {
        line.split(" | ")[0].strip("| *"): line.split(" | ") for line in table.splitlines() if line.startswith("| ")
    }
    assert "40 judged, 10 of them anomalous" in table
    assert set(rows) == {
        "system",
        "---",
        "knn",
        "zeroshot",
        "random forest (fields)",
        "Precedent",
        "Precedent with knn",
    }
    assert rows["knn"][1] == "normal cases"
    assert rows["knn"][6] == "1.000"
    assert float(rows["Precedent"][6]) > 0.95
    assert rows["Precedent"][11] == "120 (30)"
    assert re.search(r"zeroshot .*not fitted: it takes a brief", table)
    settings.cache_clear()


def test_bad_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, reason in (
        (["--systems", "iforst"], "did you mean iforest"),
        (["--data", "nothing"], "no data set 'nothing'"),
        (["--file", "a", "b"], "--file takes --label"),
    ):
        with pytest.raises(SystemExit) as stopped:
            systems.main(arguments)
        assert stopped.value.code == 2
        assert reason in capsys.readouterr().err
