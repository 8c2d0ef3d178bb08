"""`precedent judge` on many records: folders and patterns, short lines, the summary, and options that conflict."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path

import polars as pl
import pytest

from agent.data.inputs import MANY, is_large_input
from tests.conftest import Run

WORDS = ("read", "written", "moved", "copied")


@pytest.fixture
def learned(run: Run, tmp_path: Path) -> Run:
    """Source `svc`: forty lines of four normal templates, twelve of an anomalous one."""
    lines = [f"- file {i} was {WORDS[i % 4]} in {i * 3} ms" for i in range(40)]
    lines += [f"ALERT disk {i} lost block {i * 7}" for i in range(12)]
    (tmp_path / "cases.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = run("learn", "cases.log", "--source", "svc", "--label", "0", "--brief", "A file service.")
    assert done.code == 0, done.err
    return run


def many(lines: int, start: int = 100) -> str:
    messages = (
        f"disk {i} lost block {i}" if i % 50 == 0 else f"file {i} was {WORDS[i % 4]} in 3 ms" for i in range(lines)
    )
    return "".join(f"2026-01-0{1 + n % 3} 10:00:0{n % 10} {line}\n" for n, line in enumerate(messages, start))


def test_many_records_are_summed_up_and_written_short(learned: Run, tmp_path: Path) -> None:
    (tmp_path / "big.log").write_text(many(MANY), encoding="utf-8")
    done = learned("judge", "big.log", "--source", "svc")
    assert done.code == 0, done.err
    assert "10,000 records in" in done.err
    assert "200 anomalous" in done.err
    assert {"big.log:1", "(2026-01-02"} <= set(done.err.split())
    done = learned("judge", "big.log", "--source", "svc", "--output", "out.jsonl", "--report", "report.html")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["line"] for line in lines] == list(range(1, MANY + 1))
    assert sum(line["label"] == "anomalous" for line in lines) == 200
    assert "lost block" in (tmp_path / "report.html").read_text()
    templates = [json.loads(line) for line in (tmp_path / "out.jsonl.templates.jsonl").read_text().splitlines()]
    assert {template["template"] for template in templates} == {line["template"] for line in lines}
    corrected = learned("correct", templates[0]["id"], "normal")
    assert corrected.code == 0, corrected.err


def test_below_ten_thousand_whole_verdicts_are_written(learned: Run, tmp_path: Path) -> None:
    (tmp_path / "few.log").write_text(many(60), encoding="utf-8")
    done = learned("judge", "few.log", "--source", "svc", "--output", "out.jsonl", "--only", "anomalous,unsure")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["record"]["line"] for line in lines] == [1, 51]
    assert all(line["explanation"] for line in lines)


def test_records_of_another_system_are_reported(run: Run, tmp_path: Path) -> None:
    things = ("disk", "socket", "table", "queue", "router", "volume", "sensor", "cache")
    lines = [f"the {thing} was {verb}" for thing in things for verb in ("opened", "closed", "lost", "found", "moved")]
    labels = ["bad" if "lost" in line else "-" for line in lines]
    (tmp_path / "lines.log").write_text("\n".join(lines * 2) + "\n", encoding="utf-8")
    (tmp_path / "cases.log").write_text(
        "".join(f"{a} {b}\n" for a, b in zip(labels, lines, strict=True)), encoding="utf-8"
    )
    assert run("learn", "cases.log", "--source", "svc", "--label", "0", "--brief", "Parts.").code == 0
    other = [f"GET /shop/{word} HTTP/1.1 404 Mozilla {i}" for i, word in enumerate(["cart", "home", "login"] * 20)]
    (tmp_path / "web.log").write_text("\n".join(other) + "\n", encoding="utf-8")
    for options in ((), ("--detail", "compact")):
        done = run("judge", "web.log", "--source", "svc", *options)
        assert done.code == 0, done.err
        assert "60 of 60 records are farther from every case of svc" in " ".join(done.err.split())
    assert "farther" not in run("judge", "lines.log", "--source", "svc").err


def test_folders_and_patterns_are_read_file_by_file(learned: Run, tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "deep"
    folder.mkdir(parents=True)
    (folder.parent / "b.log").write_text(many(5), encoding="utf-8")
    (folder / "a.log.gz").write_bytes(gzip.compress(many(7).encode()))
    (folder.parent / ".hidden").write_text("x\n", encoding="utf-8")
    (folder.parent / "c.log").write_bytes(b"")
    (folder / "d.bin").write_bytes(bytes(range(256)) * 9)
    for named, files in (("logs", ["logs/b.log", "logs/deep/a.log.gz"]), ("logs/*.log", ["logs/b.log"])):
        done = learned("judge", named, "--source", "svc", "--to", "jsonl", "--detail", "compact")
        assert done.code == 0, done.err
        read_files = [json.loads(line)["file"] for line in done.out.splitlines()]
        assert list(dict.fromkeys(read_files)) == files
        left_out = [line for line in done.err.splitlines() if line.startswith("left out: ")]
        assert [("c.log" in line, "d.bin" in line) for line in left_out] == [(True, False), (False, True)][: len(files)]
    nothing = learned("judge", "logs/*.txt", "--source", "svc")
    assert (nothing.code, "no file" in nothing.err) == (2, True)


def test_standard_input_in_bulk(learned: Run) -> None:
    done = learned("judge", "-", "--source", "svc", "--to", "csv", "--detail", "compact", stdin=many(120).encode())
    assert done.code == 0, done.err
    header, *lines = done.out.splitlines()
    assert header == "file,line,label,probability,template,id,reason,text"
    assert [line.split(",")[:2] for line in lines] == [["-", str(n)] for n in range(1, 121)]


def test_parquet_has_the_short_lines_as_columns(learned: Run, tmp_path: Path) -> None:
    (tmp_path / "few.log").write_text(many(60), encoding="utf-8")
    done = learned("judge", "few.log", "--source", "svc", "--output", "out.parquet")
    assert done.code == 0, done.err
    frame = pl.read_parquet(tmp_path / "out.parquet")
    assert frame["line"].to_list() == list(range(1, 61))
    assert frame["label"].value_counts().sort("count")["count"].to_list()[0] == 2
    assert (tmp_path / "out.parquet.templates.jsonl").exists()
    assert not (tmp_path / "out.parquet.jsonl").exists()


def test_a_parquet_file_that_was_not_finished_goes_on(
    learned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "few.log").write_text(many(60), encoding="utf-8")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    judge = "judge", "few.log", "--source", "svc", "--output", "out.parquet", "--report", "out.html"
    with monkeypatch.context() as stopped:
        stopped.setattr("agent.bulk.report.write_report", stop)
        assert learned(*judge).code == 130
    assert (tmp_path / "out.parquet.jsonl").exists()
    assert learned(*judge, "--resume").code == 0
    assert pl.read_parquet(tmp_path / "out.parquet")["line"].to_list() == list(range(1, 61))
    assert not list(tmp_path.glob("out.parquet.jsonl*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--resume",), "--output"),
        (("-o", "out.log"), "--to"),
        (("-o", "cases.log", "--to", "jsonl"), "one of the files to judge"),
        (("--report", "cases.log"), "one of the files to judge"),
        (("--only", "odd"), "normal, anomalous, unsure"),
        (("--to", "parquet"), "--output"),
        (("--to", "csv", "--detail", "full", "--llm-calls", "3"), "--detail compact"),
    ],
)
def test_what_does_not_go_together_is_refused(
    learned: Run, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    before = (tmp_path / "cases.log").read_bytes()
    refused = learned("judge", "cases.log", "--source", "svc", *options)
    assert (refused.code, message in refused.err) == (2, True), refused.err
    assert (tmp_path / "cases.log").read_bytes() == before


@pytest.mark.parametrize("options", [(), ("--detail", "compact")])
def test_what_cannot_be_read_costs_no_earlier_output(learned: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "out.jsonl").write_text("earlier\n", encoding="utf-8")
    (tmp_path / "odd.log").write_bytes(bytes(range(256)) * 9)
    os.mkfifo(tmp_path / "pipe")
    for names, message in (
        (["odd.log"], "binary"),
        (["cases.log", "none.log"], "no such file"),
        (["pipe"], "standard input"),
    ):
        refused = learned("judge", *names, "--source", "svc", "--output", "out.jsonl", *options)
        assert (refused.code, message in refused.err) == (2, True), refused.err
        assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == "earlier\n"


def test_slow_options_are_reported(learned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.data.inputs.MANY", 100)
    (tmp_path / "many.log").write_text(many(120), encoding="utf-8")
    by_pipe = learned("judge", "-", "--source", "svc", "--to", "jsonl", stdin=many(120).encode())
    assert "standard input is judged one by one; --detail compact" in by_pipe.err
    whole = learned("judge", "many.log", "--source", "svc", "--to", "csv", "--detail", "full")
    assert "one by one; --detail compact, or --to jsonl" in whole.err
    assert "one by one" not in learned("judge", "many.log", "--source", "svc", "--to", "csv").err


@pytest.mark.parametrize("corrected", [0, 1, 2])
def test_first_and_last_seen_are_those_of_the_input_after_a_correction(
    learned: Run, tmp_path: Path, corrected: int
) -> None:
    """A case has a verdict of its own, but its template is one row of the report."""
    (tmp_path / "few.log").write_text(many(150), encoding="utf-8")
    (tmp_path / "more.log").write_text(many(60), encoding="utf-8")
    judged = learned("judge", "few.log", "--source", "svc", "--to", "jsonl", "--only", "anomalous")
    verdicts = [json.loads(line) for line in judged.out.splitlines()]
    assert [verdict["record"]["line"] for verdict in verdicts] == [1, 51, 101]
    assert learned("correct", verdicts[corrected]["id"], "anomalous").code == 0
    done = learned("judge", "few.log", "more.log", "--source", "svc", "--output", "out.csv", "--report", "out.html")
    assert done.code == 0, done.err
    (row,) = re.findall(
        r"<td class=\"n\">(\d+)</td>.*?<td>(\S+) .*?</td><td>(\S+) ", (tmp_path / "out.html").read_text()
    )
    assert row == ("5", "few.log:1", "more.log:51")
    (tmp_path / "one.log").write_text(many(150), encoding="utf-8")
    learned("judge", "one.log", "--source", "svc", "--output", "one.csv", "--report", "one.html")
    (row,) = re.findall(
        r"<td class=\"n\">(\d+)</td>.*?<td>(\S+) .*?</td><td>(\S+) ", (tmp_path / "one.html").read_text()
    )
    assert row == ("3", "one.log:1", "one.log:101")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "the verdicts so far are written, the same command begins again"),
        (("--detail", "compact"), "can be continued: this begins again"),
        (("--detail", "compact", "--output", "o.jsonl"), "the same command with --resume continues"),
    ],
)
def test_ctrl_c_says_whether_it_can_go_on(
    learned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "few.log").write_text(many(60), encoding="utf-8")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("agent.pipeline.steps.Steps.retrieve", stopped)
        done = learned("judge", "few.log", "--source", "svc", *options)
    assert done.code == 130
    assert done.err.splitlines()[-1].startswith("stopped; ")
    assert said in done.err
    if "--output" in options:
        again = learned("judge", "few.log", "--source", "svc", *options, "--resume")
        assert (again.code, len((tmp_path / "o.jsonl").read_text().splitlines())) == (0, 60)


@pytest.mark.parametrize("count", [90, 110])
def test_a_large_input_is_known_by_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("agent.data.inputs.MANY", 100)
    events = [["login", "close"]] * count
    objects = ", ".join(f'{{"id": {i}, "value": {i}}}' for i in range(count))
    pl.DataFrame({"events": events}).write_parquet(tmp_path / "sessions.parquet")
    (tmp_path / "array.json").write_text(f"[{objects}]")
    (tmp_path / "envelope.json").write_text(f'{{"items": [{objects}]}}')
    (tmp_path / "lines.log").write_text("[a] b\n" * count)
    (tmp_path / "braces.log").write_text("[a] {}, {}, {},\n" * count)
    (tmp_path / "lines.log.gz").write_bytes(gzip.compress(b"a b\n" * count))
    for file in tmp_path.iterdir():
        assert is_large_input([str(file)]) == (count > 100), file.name
    assert is_large_input(["-", *map(str, tmp_path.iterdir())])
