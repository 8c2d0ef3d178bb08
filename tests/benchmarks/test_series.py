"""The benchmark of series on a folder like NAB's, of one series of the tests' own."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.series import rows, table
from tests.series_files import DAY, START, daily, write_series


def test_each_system_is_measured_on_the_rows(tmp_path: Path) -> None:
    values = daily(25 * DAY)
    values[500:540] = [160.0] * 40
    (tmp_path / "realKnownCause").mkdir()
    write_series(tmp_path / "realKnownCause" / "a.csv", values)
    times = [str(START.replace(day=11, hour=10)), str(START.replace(day=12, hour=5, minute=30))]
    (tmp_path / "combined_windows.json").write_text(json.dumps({"realKnownCause/a.csv": [times]}))
    found = rows(tmp_path, ["precedent", "iforest_windows", "sub_pca"])
    assert found["precedent"]["a"].vus_pr > 0.8
    assert found["precedent"]["a"].auc > 0.95
    assert sorted(line.split()[1] for line in table(found).splitlines()[2:]) == sorted(found)
