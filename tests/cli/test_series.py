"""Series from the command line: learned, judged with the kind of each anomaly, evaluated by points, and ranked."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.series_files import DAY, START, daily, write_series

_SPIKE, _SHIFT = 3 * DAY + 30, range(5 * DAY + 10, 5 * DAY + 34)


def _with_anomalies(path: Path) -> Path:
    values = daily(8 * DAY, seed=5)
    values[_SPIKE] += 80
    for i in _SHIFT:
        values[i] = 215 - values[i]
    return write_series(
        path, values, [int(i == _SPIKE or i in _SHIFT) for i in range(8 * DAY)], START + timedelta(days=35)
    )


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    return write_series(tmp_path / "normal.csv", daily(28 * DAY))


def test_series_are_learned_judged_evaluated_and_reported(run: Run, tmp_path: Path, normal: Path) -> None:
    source = ("--source", "load", "--model", "none")
    learned = run("learn", normal, "--series", *source, "--all-normal", "--brief", "b", "--window", 48)
    assert learned.code == 0, learned.err
    assert "the detector series has weight 1 beside" in learned.out
    assert (
        "1 series of value, a point every 1800 s; windows of 48 points (as named), one every 24 points" in learned.out
    )
    judged = _with_anomalies(tmp_path / "judged.csv")
    verdicts = [json.loads(line) for line in run("judge", judged, *source, "--to", "jsonl").out.splitlines()]
    assert len(verdicts) == 15
    by_line = {verdict["record"]["line"]: verdict for verdict in verdicts}
    spike, shift = by_line[2 + 3 * DAY], by_line[2 + 5 * DAY]
    assert (spike["label"], shift["label"]) == ("anomalous", "anomalous")
    assert "point: " in spike["explanation"]
    assert "2024-02-08 15:00:00" in spike["explanation"]
    assert "contextual: " in shift["explanation"]
    assert by_line[2]["label"] != "anomalous"
    assert len(spike["record"]["series"]["values"]["value"]) == 48
    figures = json.loads(run("evaluate", judged, *source, "--label", "label", "--json").out)
    assert figures["roc_auc"] == 1
    assert figures["vus_pr"] > 0.4
    assert figures["event_f1"] > 0.6
    ranges = tmp_path / "ranges.json"
    times = [str(START + timedelta(days=35, minutes=30 * i)) for i in (_SPIKE, _SPIKE, _SHIFT[0], _SHIFT[-1])]
    ranges.write_text(json.dumps({"a/judged.csv": [times[:2], times[2:]]}))
    by_ranges = json.loads(run("evaluate", judged, *source, "--windows", ranges, "--json").out)
    assert by_ranges["vus_pr"] == pytest.approx(figures["vus_pr"])
    page = tmp_path / "report.html"
    hostile = judged.rename(tmp_path / "<script>alert(1)<.csv")
    assert run("judge", hostile, *source, "--report", page).code == 0
    html = page.read_text()
    assert "<script>alert(1)" not in html
    assert '<svg class="series"' in html
    assert re.search(r'<rect class="anomalous" fill-opacity="0.35" x="\d', html)
    # a verdict on a window can be corrected as any other, and its series stays a case
    assert run("correct", spike["id"], "normal").code == 0
    again = run("judge", hostile, *source, "--to", "jsonl")
    assert [json.loads(line)["label"] for line in again.out.splitlines()][6] == "normal"
    refused = run("watch", normal, "--once", *source[:2])
    assert "is of time series: watch follows records" in refused.err
    refused = run("judge", judged.with_name("normal.csv"), "--window", 20, *source)
    assert refused.code == 2
    assert "was learned with windows of 48 points" in refused.err


def test_series_without_labels_are_ranked(run: Run, tmp_path: Path) -> None:
    values = daily(20 * DAY)
    values[500] += 150
    path, page = write_series(tmp_path / "a.csv", values), tmp_path / "page.html"
    ranked = run("judge", path, "--series", "--window", 48, "--to", "jsonl", "--report", page)
    assert ranked.code == 0, ranked.err
    (first, *_) = [json.loads(line) for line in ranked.out.splitlines()]
    assert first["record"]["line"] <= 502 < first["record"]["line"] + 48
    assert any(fact.startswith("point: ") and "2024-01-11 10:00:00" in fact for fact in first["facts"])
    assert "Nothing here is labelled" in ranked.err
    assert '<rect class="unsure"' in page.read_text()
    table = run("judge", path, "--series", "--window", 48)
    assert "windows compared" in table.out


def test_options_of_series_are_checked(run: Run, tmp_path: Path, normal: Path) -> None:
    for arguments, reason in (
        (("judge", normal, "--window", 48), "--window: of time series, which --series reads"),
        (("judge", normal, "--series", "--to", "csv", "-o", tmp_path / "o.csv"), "need a source"),
        (("learn", normal, "--series", "--source", "s"), "needs --label COLUMN"),
        (("learn", normal, "--series", "--source", "s", "--all-normal", "--step", 60, "--window", 48), "leaves points"),
        (("learn", normal, "--series", "--source", "s", "--all-normal", "--text", "value"), "--value names"),
    ):
        refused = run(*arguments)
        assert refused.code == 2, reason
        assert reason in refused.err
