"""`precedent judge FILE` without a source: events, and the ways to a source."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from agent.cli import rank as rank_command
from tests.conftest import Run


@pytest.fixture
def log(tmp_path: Path) -> Path:
    lines = [f"2026-03-01 08:{n // 60:02d}:{n % 60:02d} INFO unit {n % 7} polled in {n} ms" for n in range(300)]
    lines[200:200] = ["2026-03-01 08:03:20 ERROR unit 4 lost its lease"]
    lines[100:100] = ["2026-03-01 08:01:40 INFO operator opened the panel"]
    path = tmp_path / "night.log"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_events_without_a_source(run: Run, log: Path, tmp_path: Path) -> None:
    shown = run("judge", log, "--report", tmp_path / "page.html")
    assert shown.code == 0
    assert shown.out.index("lost its lease") < shown.out.index("opened the panel") < shown.out.index("polled")
    assert "Nothing here is labelled" in shown.out
    assert "--all-normal" in shown.err
    assert "lost its lease" in (tmp_path / "page.html").read_text()


def test_events_as_json_lines(run: Run, log: Path, tmp_path: Path) -> None:
    shown = run("judge", log, "--to", "jsonl")
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert [event["rank"] for event in events] == [1, 2, 3]
    assert run("judge", log, "--output", tmp_path / "e.jsonl").code == 0
    assert (tmp_path / "e.jsonl").read_text() == shown.out


def test_options_of_verdicts_need_a_source(run: Run, log: Path) -> None:
    for option in (["--only", "anomalous"], ["--resume"], ["--to", "csv"], ["--llm-calls", "3"]):
        shown = run("judge", log, *option)
        assert shown.code == 2, option
        assert "source" in shown.err


def test_all_normal_makes_a_source_which_judges_only_where_it_is_named(run: Run, log: Path, tmp_path: Path) -> None:
    assert run("learn", log, "--source", "night").code == 2
    assert run("learn", log, "--source", "night", "--all-normal", "--label", "0").code == 2
    learned = run("learn", log, "--source", "night", "--all-normal")
    assert "all of them normal, as named" in learned.out
    assert not any(text in learned.out for text in ("None:", "label values", "--normal right"))
    assert learned.code == 0, learned.err
    new = tmp_path / "new.log"
    new.write_text("2026-03-02 08:00:00 INFO unit 3 polled in 7 ms\n")
    assert "label" not in json.loads(run("judge", new, "--to", "jsonl").out)
    judged = run("judge", new, "--to", "jsonl", "--source", "night")
    assert json.loads(judged.out)["label"] == "normal"
    assert json.loads(judged.out)["source"] == "night"
    assert run("judge", new, "--against", log).out.count("polled") == 1, "events again"
    assert run("judge", new, "--against", log, "--source", "night").code == 2


def test_labels_by_keys_make_a_source(run: Run, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = iter("xasn")
    monkeypatch.setattr(click, "getchar", lambda: next(keys))
    monkeypatch.setattr(rank_command, "_is_terminal", lambda: True)
    shown = run("judge", log, stdin=b"\n")
    assert shown.code == 0, shown.err
    assert "source night: 2 new cases" in shown.err
    judged = run("judge", log, "--source", "night", "--to", "jsonl")
    labels = {(body := json.loads(line))["record"]["text"][20:]: body["label"] for line in judged.out.splitlines()}
    assert labels["ERROR unit 4 lost its lease"] == "anomalous"
    assert labels["INFO unit 6 polled in 6 ms"] == "normal"


def test_events_do_not_steer_a_terminal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bidi.log").write_text("".join(f"user \u202e{word}\u2066 left\u202c {word}\u200b\n" for word in "abcd"))
    shown = run("judge", "bidi.log")
    assert not set("\u202e\u2066\u202c\u200b") & set(shown.out + shown.err)
    assert "\\u202e" in shown.out
