"""The table of systems on files of the test's own."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from agent.core.errors import UsageError
from agent.core.settings import settings
from benchmarks.systems import __main__ as systems
from benchmarks.systems.measuring import Row
from benchmarks.systems.results import Section, read, write
from benchmarks.systems.table import page


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
         "--limit", "40", "--output", str(output), "--json", str(tmp_path / "rows.json")]
    )  # fmt: skip
    table = output.read_text(encoding="utf-8")
    systems_table, fusion = table.split("## Fusion")
    rows = {
        line.split(" | ")[0].strip("| *"): line.split(" | ")
        for line in systems_table.splitlines()
        if line.startswith("| ")
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
    assert re.search(r"\| l \| 0 \| 120 / 40 \| knn \| [\d.e-]+ \|", fusion)
    capsys.readouterr()
    systems.main(["--from", str(tmp_path / "rows.json")])
    assert capsys.readouterr().out.strip() == table.strip()
    settings.cache_clear()


def _section(*rows: Row, **changed: Any) -> Section:
    fixed = {"name": "d", "protocol": "P.", "learned": 9, "judged": 5, "anomalous": 2, "limit": 0, "draw": 0}
    return Section(**{**fixed, "machine": "2 CPU cores", **changed, "rows": rows})


def test_rows_of_several_files_are_one_table_and_draws_are_compared(tmp_path: Path) -> None:
    base = Row("Precedent", "both labels", f1=0.5, roc_auc=0.9)
    fused = Row("Precedent with knn", "both labels", f1=0.25, roc_auc=0.8991, weight=0.3)
    write(tmp_path / "a.json", [_section(base), _section(base, fused, draw=1, limit=3)])
    write(tmp_path / "b.json", [_section(Row("vae", "normal cases", roc_auc=0.95))])
    text = page(read([tmp_path / "a.json", tmp_path / "b.json"]))
    assert text.count("## d\n") == 1
    assert text.index("| vae |") < text.index("| **Precedent** |"), "best AUC first"
    assert "Measured on 2 CPU cores" in text
    assert "| d | 1 | 9 / 5 | knn | 0.3 | 0.9000 | 0.8991 | -0.0009 | -0.2500 |" in text
    write(tmp_path / "c.json", [_section(base, judged=6)])
    with pytest.raises(UsageError, match="other records"):
        read([tmp_path / "a.json", tmp_path / "c.json"])
    (tmp_path / "d.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="is not a file of"):
        read([tmp_path / "d.json"])


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
