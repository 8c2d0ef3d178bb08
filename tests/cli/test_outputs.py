"""What people take away: CSV for spreadsheets, reports as pages, and verdicts that they name by place or template."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import random
import re
from pathlib import Path

import pytest

from tests.conftest import Run

WORDS = ("read", "written", "moved", "copied")
FORMULA = "=1+2|'/c calc'!A0 disk 9 lost block 3"


@pytest.fixture
def learned(run: Run, tmp_path: Path) -> Run:
    """Source `svc`: texts in a column; source `mill`: rows whose heat shows a fault."""
    rows = [("ok", f"file {i} was {WORDS[i % 4]} in {i * 3} ms") for i in range(40)]
    rows += [("ALERT", f"disk {i} lost block {i * 7}") for i in range(12)]
    (tmp_path / "cases.csv").write_text("kind,text\n" + "".join(f"{kind},{text}\n" for kind, text in rows))
    done = run("learn", "cases.csv", "--source", "svc", "--label", "kind", "--normal", "ok", "--model", "none")
    assert done.code == 0, done.err
    mill(tmp_path / "mill.csv", 80)
    done = run("learn", "mill.csv", "--source", "mill", "--label", "broken", "--model", "none")
    assert done.code == 0, done.err
    return run


def mill(path: Path, count: int) -> None:
    rng = random.Random(3)
    lines = [
        f"{rng.gauss(90 if i % 8 == 7 else 30, 3):.2f},{rng.randint(700, 900)},{int(i % 8 == 7)}" for i in range(count)
    ]
    path.write_text("heat,turns,broken\n" + "\n".join(lines) + "\n", encoding="utf-8")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("bulk", [False, True])
def test_csv_has_text_reason_and_id_and_no_formula(learned: Run, tmp_path: Path, bulk: bool) -> None:
    texts = [FORMULA, "file 7 was read in 3 ms", '@SUM(A1) "quoted", twice', "-3 + 4 ms\tlater"]
    (tmp_path / "new.log").write_text("\n".join(texts), encoding="utf-8")
    judge = ("judge", "new.log", "--source", "svc", "--to", "csv", "--model", "none", *(["--detail", "compact"] * bulk))
    for raw in (False, True):
        done = learned(*judge, *(["--csv-raw"] * raw))
        assert done.code == 0, done.err
        made = rows(done.out)
        assert [row["text"] for row in made] == [f"'{text}" if text[0] in "=@-" and not raw else text for text in texts]
        assert all(re.fullmatch("v[0-9a-f]{32}", row["id"]) and row["reason"] for row in made)
        assert {row["label"] for row in made} <= {"normal", "anomalous", "unsure"}
        assert all(float(row["probability"]) >= 0 for row in made)
    assert learned("explain", made[0]["id"], "--model", "none").code == 0


def test_reasons_of_rows_in_bulk_are_those_of_what_is_not_normal(learned: Run, tmp_path: Path) -> None:
    mill(tmp_path / "new.csv", 30)
    done = learned("judge", "new.csv", "--source", "mill", "--to", "csv", "--detail", "compact", "--model", "none")
    made = rows(done.out)
    assert len(made) == 30
    assert all(bool(row["reason"]) == (row["label"] != "normal") for row in made)
    # one that was judged without an explanation gets it when it is asked for
    shown = learned("explain", "new.csv:2", "--model", "none")
    assert "heat is" in shown.out
    assert "probability of an anomaly" in shown.out
    assert "waiting for the language model" not in shown.err


def test_verdicts_are_named_by_place_and_by_template(learned: Run, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "new.log"
    log.write_text("file 7 was read in 3 ms\nrobot 1 lost its gripper\nfile 8 was read in 3 ms\n", encoding="utf-8")
    judge = ("judge", "logs/new.log", "--source", "svc", "--model", "none")
    first = [json.loads(line) for line in learned(*judge, "--to", "jsonl").out.splitlines()]
    for reference in ("logs/new.log:2", "new.log:2"):
        assert first[1]["id"] in learned("explain", reference, "--model", "none").out
    assert learned("explain", "logs/new.log:9", "--model", "none").code == 2
    assert learned("explain", "gs/new.log:2", "--model", "none").code == 2
    short = [json.loads(line) for line in learned(*judge, "--to", "jsonl", "--detail", "compact").out.splitlines()]
    corrected = learned("correct", short[1]["template"], "normal")
    assert corrected.code == 0, corrected.err
    assert "robot 1 lost its gripper" in corrected.out
    assert learned("explain", "t" + "0" * 15, "--model", "none").code == 2
    # the same line of a later run is meant
    again = json.loads(learned(*judge, "--to", "jsonl").out.splitlines()[1])
    assert (again["label"], again["id"] != first[1]["id"]) == ("normal", True)
    assert again["id"] in learned("explain", "new.log:2", "--model", "none").out


def test_a_line_of_a_bulk_run_without_a_verdict_of_its_own_is_judged(learned: Run, tmp_path: Path) -> None:
    (tmp_path / "new.log").write_text("".join(f"file {i} was read in 3 ms\n" for i in range(9)), encoding="utf-8")
    learned("judge", "new.log", "--source", "svc", "--detail", "compact", "--to", "jsonl", "--model", "none")
    corrected = learned("correct", "new.log:7", "anomalous")
    assert corrected.code == 0, corrected.err
    assert "file 6 was read" in corrected.out


def test_what_may_be_several_verdicts_is_said(learned: Run, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.log").write_text("file 7 was read in 3 ms\n", encoding="utf-8")
        learned("judge", f"{folder}/x.log", "--source", "svc", "--model", "none")
    refused = learned("correct", "x.log:1", "normal")
    assert (refused.code, "a/x.log" in refused.err, "b/x.log" in refused.err) == (2, True, True)
    (tmp_path / "two.jsonl").write_text('{"text": "file 1 was read"} {"text": "disk 3 lost block 4"}', encoding="utf-8")
    learned("judge", "two.jsonl", "--source", "svc", "--model", "none")
    refused = learned("explain", "two.jsonl:1", "--model", "none")
    assert (refused.code, "two.jsonl:1 may mean several: v" in refused.err) == (2, True)


def test_files_of_one_name_in_two_folders_are_not_confused(
    learned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"p": "disk 3 lost block 4", "q": "file 9 was read in 3 ms"}
    for folder, text in texts.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "s.log").write_text(f"{text}\n", encoding="utf-8")
    ids = []
    for folder in texts:
        monkeypatch.chdir(tmp_path / folder)
        ids.append(json.loads(learned("judge", "s.log", "-s", "svc", "--model", "none", "--to", "jsonl").out)["id"])
        if folder == "p":
            found = learned("explain", str(tmp_path / "p" / "s.log") + ":1", "--model", "none")
            assert ids[0] in found.out
            # a file of that name of which no verdict is stored
            monkeypatch.chdir(tmp_path / "q")
            refused = learned("correct", "s.log:1", "anomalous")
            assert (refused.code, ids[0] in refused.err, texts["q"] in refused.err) == (2, True, True)
    for folder in texts:
        monkeypatch.chdir(tmp_path / folder)
        for reference in ("s.log:1", str(tmp_path / folder / "s.log") + ":1"):
            refused = learned("correct", reference, "anomalous")
            assert refused.code == 2
            assert all(part in refused.err for part in (*ids, *texts.values()))
    assert learned("correct", ids[0], "anomalous").code == 0


def check_page(page: str) -> None:
    """Nothing is loaded, and what may run and style is what the policy names by its hash."""
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src &#39;none&#39;")
    for tag in ("script", "style"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;" in policy
    assert not re.search(r"(?:src|href)=|style=\"|onclick", page)


def test_the_report_of_rows_groups_alike_rows_and_names_the_fields(learned: Run, tmp_path: Path) -> None:
    mill(tmp_path / "new.csv", 60)
    done = learned("judge", "new.csv", "--source", "mill", "--report", "r.html", "--model", "none")
    assert done.code == 0, done.err
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    check_page(page)
    groups = re.findall(r'<tr data-row><td class="n">(\d+)</td>.*?<strong>(.*?)</strong>', page, re.DOTALL)
    assert max(int(count) for count, _ in groups) >= 5
    assert all("heat above" in name for count, name in groups if int(count) >= 5)
    assert "decided by" in page
    # the report changes nothing of the verdicts that are written
    options = ("--source", "mill", "--model", "none", "--output")
    learned("judge", "new.csv", *options, "with.jsonl", "--report", "r.html")
    learned("judge", "new.csv", *options, "without.jsonl")
    explained = [
        [json.loads(line)["explanation"] for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("with", "without")
    ]
    assert explained[0] == explained[1]
    assert all(explained[0])


def test_the_report_shows_times_and_escapes_and_finds(learned: Run, tmp_path: Path) -> None:
    lines = [f"2026-01-02 03:{i:02}:00 disk {i} lost block {i} <b onclick=x>" for i in range(40)]
    (tmp_path / "app.log.1").write_text("\n".join(lines[:20]), encoding="utf-8")
    (tmp_path / "app.log").write_text("\n".join(lines[20:]), encoding="utf-8")
    learned("judge", "app.log.1", "app.log", "--source", "svc", "--report", "r.html", "--model", "none")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    check_page(page.replace("&lt;b onclick", ""))
    assert "<span>2026-01-02 03:00:00</span>" in page
    assert "<b onclick" not in page
    assert 'id="search"' in page
    ((first, last),) = re.findall(r'<td class="n">[\d.]+</td><td>(app[^<]*)</td><td>(app[^<]*)</td>', page)
    assert (first, last) == ("app.log.1:1 (2026-01-02 03:00:00)", "app.log:20 (2026-01-02 03:39:00)")


def test_the_report_of_an_evaluation_has_figures_and_errors_with_reasons(learned: Run, tmp_path: Path) -> None:
    rows = ["ok,file 7 was read in 3 ms", "ALERT,file 9 was <moved> in 4 ms", "ALERT,disk 3 lost block 5"]
    (tmp_path / "test.csv").write_text("kind,text\n" + "\n".join(rows), encoding="utf-8")
    options = ("--source", "svc", "--label", "kind", "--normal", "ok", "--model", "none")
    done = learned("evaluate", "test.csv", *options, "--report", "e.html", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["n"] == 3
    page = (tmp_path / "e.html").read_text(encoding="utf-8")
    check_page(page)
    assert page.count("<tr data-row>") == 1
    assert "file 9 was &lt;moved&gt; in 4 ms" in page
    assert "test.csv:3" in page
    assert "decided by" in page
    matrix = re.findall(r"<th>(normal|anomalous)</th>((?:<td class=\"n\">\d+</td>)+)", page)
    assert [(label, re.findall(r"\d+", cells)) for label, cells in matrix] == [
        ("normal", ["1", "0", "0", "1"]),
        ("anomalous", ["1", "0", "1", "2"]),
    ]
    refused = learned("evaluate", "test.csv", *options, "--report", "test.csv")
    assert (refused.code, "write to another one" in refused.err) == (2, True)


def test_ids_are_whole_on_a_narrow_screen(learned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "new.log").write_text("file 7 was read in 3 ms\n", encoding="utf-8")
    done = learned("judge", "new.log", "--source", "svc", "--model", "none")
    (verdict_id,) = re.findall("v[0-9a-f]{32}", done.out)
    assert learned("explain", verdict_id, "--model", "none").code == 0


def test_a_source_without_cases_and_a_model_says_that_all_is_unsure(run: Run, tmp_path: Path) -> None:
    run("sources", "brief", "new", "Lines of a new system.")
    (tmp_path / "new.log").write_text("file 7 was read in 3 ms\n", encoding="utf-8")
    done = run("judge", "new.log", "--source", "new", "--model", "none")
    assert done.code == 0
    assert "new has no cases, and there is no language model" in done.err


def test_a_source_is_shown_in_words(learned: Run) -> None:
    shown = learned("sources", "show", "mill").out
    assert "{" not in shown
    assert "columns: heat (number), turns (number)" in shown
    assert "files: auto format, text every column, label broken" in shown
    assert "weights of the signals: " in shown
    assert "text text, label kind (normal: ok)" in learned("sources", "show", "svc").out


def test_without_a_terminal_a_table_is_as_wide_as_its_rows(
    learned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    text = "disk 7 lost block 49 " + "while the crew of hall two was at lunch "
    (tmp_path / "new.log").write_text(text, encoding="utf-8")
    done = learned("judge", "new.log", "--source", "svc", "--model", "none")
    (row,) = [line for line in done.out.splitlines() if text.strip() in line]
    assert "new.log:1" in row
    assert re.search(r"c\d+ anomalous 0\.\d\d", row), "precedents are shown"
    assert max(map(len, done.out.splitlines())) < 1_000


STEERING = "disk 7 \u202elost block\u200b 49 \u009b2J \U000e0041"


@pytest.mark.parametrize("detail", ["full", "compact"])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_json_on_a_terminal_has_no_character_that_steers_it(
    learned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_terminal: bool, detail: str
) -> None:
    (tmp_path / "new.jsonl").write_text(json.dumps({"text": STEERING}), encoding="utf-8")
    monkeypatch.setattr("agent.core.terminal.is_terminal", lambda stream: is_terminal)
    options = ("--source", "svc", "--to", "jsonl", "--detail", detail, "--explain", "facts", "--model", "none")
    done = learned("judge", "new.jsonl", *options)
    raw = [character for character in STEERING if not character.isprintable() and character in done.out]
    if detail == "full":
        assert json.loads(done.out)["record"]["text"] == STEERING
        assert bool(raw) is not is_terminal
    if is_terminal:
        assert raw == []


@pytest.mark.parametrize("length", [244, 400])
def test_a_name_that_no_file_can_have_is_refused_in_one_line(learned: Run, tmp_path: Path, length: int) -> None:
    lines = tmp_path / "lines.log"
    lines.write_text("file 1 was read in 3 ms\n")
    done = learned("judge", lines, "--source", "svc", "--output", f"{'y' * length}.jsonl", "--detail", "compact")
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "too long" in done.err
