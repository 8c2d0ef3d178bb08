"""The command line as a person or a script meets it: exit codes, one-line errors, everything else judged."""

from __future__ import annotations

import csv
import gzip
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Result, Run

CONTRACT_FIGURES = {
    "accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "ece", "coverage", "selective_error",
    "records_per_second", "n", "llm_calls", "llm_changed",
}  # fmt: skip
LINES = [("-", f"service copied file number {i} to the {place}") for i in range(12) for place in ("tape", "disk")] + [
    ("bad", f"service lost file number {i}: {how}") for i in range(6) for how in ("checksum error", "disk gone")
]


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    path = tmp_path / "cases.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("Label", "Content"), *LINES])
    return path


@pytest.fixture
def learned(run: Run, cases: Path) -> Run:
    done = run("learn", cases, "--source", "svc", "--label", "Label", "--text", "Content", "--brief", "A copy service.")
    assert done.code == 0, done.err
    return run


def _verdicts(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.out.splitlines()]


def test_learn_says_what_it_learned_and_again_adds_nothing(learned: Run, cases: Path) -> None:
    again = learned("learn", cases, "--source", "svc", "--label", "Label", "--text", "Content")
    assert again.code == 0
    assert "36 records read for source svc: 0 new cases" in again.out
    shown = json.loads(learned("sources", "show", "svc", "--json").out)
    assert shown["cases"] == {"normal": 24, "anomalous": 12}
    assert shown["brief"] == "A copy service."


def test_judge_gives_one_verdict_a_line_in_order(learned: Run, cases: Path) -> None:
    result = learned("judge", cases, "--source", "svc", "--to", "jsonl")
    verdicts = _verdicts(result)
    assert result.code == 0
    assert [v["record"]["line"] for v in verdicts] == list(range(2, 38))  # type: ignore[index]
    assert [v["label"] for v in verdicts] == ["normal" if label == "-" else "anomalous" for label, _ in LINES]
    assert all("Label" not in str(v["record"]) for v in verdicts)


def test_evaluate_gives_the_contracts_figures(learned: Run, cases: Path) -> None:
    result = learned("evaluate", cases, "--source", "svc", "--label", "Label", "--json")
    figures = json.loads(result.out)
    assert set(figures) == CONTRACT_FIGURES
    assert (figures["n"], figures["f1"], figures["accuracy"]) == (36, 1.0, 1.0)


def test_judge_reads_standard_input_as_learn_read_files(learned: Run) -> None:
    result = learned(
        "judge", "-", "--source", "svc", "--to", "jsonl", stdin=b"service lost file number 99: disk gone\n"
    )
    (verdict,) = _verdicts(result)
    assert (verdict["label"], verdict["record"]["file"], verdict["record"]["line"]) == ("anomalous", "-", 1)  # type: ignore[index]


def test_a_log_may_or_may_not_have_the_label_that_was_learned(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "cases.log"
    log.write_text("".join(f"{label} {text}\n" for label, text in LINES), encoding="utf-8")
    assert run("learn", log, "--source", "log", "--label", "0", "--brief", "x").code == 0
    with_label = _verdicts(run("judge", log, "--source", "log", "--to", "jsonl"))
    bare = tmp_path / "bare.log"
    bare.write_text("".join(f"{text}\n" for _, text in LINES), encoding="utf-8")
    without = _verdicts(run("judge", bare, "--source", "log", "--to", "jsonl"))
    texts = [text for _, text in LINES]
    assert [v["record"]["text"] for v in with_label] == texts  # type: ignore[index]
    assert [v["record"]["text"] for v in without] == texts  # type: ignore[index]
    assert [v["label"] for v in with_label] == [v["label"] for v in without]


def test_csv_and_table_and_output_file(learned: Run, cases: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert learned("judge", cases, "--source", "svc", "--to", "csv", "--output", out).code == 0
    rows = list(csv.DictReader(out.open(encoding="utf-8", newline="")))
    assert len(rows) == 36
    assert {"id", "label", "probability", "line"} <= set(rows[0])
    table = learned("judge", cases, "--source", "svc")
    assert "36 records: 12 anomalous, 0 unsure, 24 normal" in table.out


def test_correct_changes_the_next_verdict(learned: Run, tmp_path: Path) -> None:
    line = tmp_path / "one.log"
    line.write_text("service lost file number 3: disk gone\n", encoding="utf-8")
    (before,) = _verdicts(learned("judge", line, "--source", "svc", "--to", "jsonl"))
    assert before["label"] == "anomalous"
    assert learned("correct", before["id"], "normal").code == 0
    (after,) = _verdicts(learned("judge", line, "--source", "svc", "--to", "jsonl"))
    assert after["label"] == "normal"


def test_a_correction_needs_no_model(
    learned: Run, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is embedded when the source is next searched; until then nothing of PyTorch or Chroma is loaded."""
    lines = ["apples rolled down the hill", "the choir sang"]
    (tmp_path / "new.log").write_text("\n".join(lines), encoding="utf-8")
    ids = [verdict["id"] for verdict in _verdicts(learned("judge", "new.log", "--source", "svc", "--to", "jsonl"))]
    code = """
import sys
from agent.cli.app import command
try:
    command()
except SystemExit as end:
    assert not end.code
heavy = {"torch", "sentence_transformers", "chromadb", "sklearn", "llama_cpp"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "correct", str(ids[0]), "anomalous"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with monkeypatch.context() as without:
        without.setenv("PRECEDENT_CACHE", str(tmp_path / "no-models"))
        corrected = learned("correct", ids[1], "anomalous")
    assert (corrected.code, "fitted" in corrected.out) == (0, False), corrected.err
    after = _verdicts(learned("judge", "new.log", "--source", "svc", "--to", "jsonl"))
    assert [verdict["label"] for verdict in after] == ["anomalous", "anomalous"]
    assert all("exactly this record" in str(verdict["explanation"]) for verdict in after), after


def test_prune_removes_what_the_settings_do_not_keep(
    learned: Run, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [verdict["id"] for verdict in _verdicts(learned("judge", cases, "--source", "svc", "--to", "jsonl"))]
    assert "removed 0 verdicts and 0 cached answers" in learned("sources", "prune").out
    monkeypatch.setenv("PRECEDENT_HISTORY_ROWS", "35")
    monkeypatch.setenv("PRECEDENT_LOG_FORMAT", "json")
    pruned = learned("sources", "prune")
    assert "removed 1 verdict and" in pruned.out
    (logged,) = (json.loads(line) for line in pruned.err.splitlines())
    assert (logged["event"], logged["verdicts"], logged["llm_answers"]) == ("prune", 1, 0)
    monkeypatch.setenv("PRECEDENT_HISTORY_DAYS", "0.0000001")
    assert "removed 35 verdicts and" in learned("sources", "prune").out
    assert learned("explain", ids[-1]).code == 2


def test_correct_names_a_case_that_it_contradicts(learned: Run, tmp_path: Path) -> None:
    (tmp_path / "one.log").write_text(
        "service copied file number 77 to the tape\nservice 9 melted away\n", encoding="utf-8"
    )
    (known, new) = _verdicts(learned("judge", tmp_path / "one.log", "--source", "svc", "--to", "jsonl"))
    assert known["precedents"][0]["similarity"] == pytest.approx(1)
    label, case = known["precedents"][0]["label"], known["precedents"][0]["case_id"]
    other = {"normal": "anomalous", "anomalous": "normal"}[label]
    assert "contradicts" not in learned("correct", known["id"], label).err
    assert f"this contradicts case {case}" in learned("correct", known["id"], other).err
    assert "contradicts" not in learned("correct", new["id"], other).err


def test_review_shows_whole_ids_on_a_narrow_screen(
    learned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some.log").write_text("the fan 3 howls\na pump leaks\n", encoding="utf-8")
    ids = [
        verdict["id"] for verdict in _verdicts(learned("judge", tmp_path / "some.log", "-s", "svc", "--to", "jsonl"))
    ]
    monkeypatch.setenv("COLUMNS", "60")
    shown = learned("review", "--source", "svc").out
    assert all(verdict_id in shown for verdict_id in ids), shown


def test_explain_says_to_what_a_verdict_was_corrected(learned: Run, cases: Path) -> None:
    verdict = _verdicts(learned("judge", cases, "--source", "svc", "--to", "jsonl"))[0]
    assert "corrected" not in learned("explain", verdict["id"]).out
    learned("correct", verdict["id"], "anomalous")
    assert "corrected this verdict to anomalous" in learned("explain", verdict["id"]).out


def test_a_terminal_is_not_steered_by_a_record(learned: Run) -> None:
    result = learned("judge", "-", "--source", "svc", stdin=b"service \x1b[2J\x1b]0;owned\x07 lost\x08 file\n")
    assert result.code == 0
    assert not {"\x1b", "\x07", "\x08"} & set(result.out)
    assert "\\x08" in result.out


# what is wrong with a file as a whole: exit 2, one line that names it

WRONG_FILES: dict[str, bytes | None] = {
    "empty.log": b"",
    "blank.log": b"\n\n  \n",
    "binary.log": bytes(range(256)) * 64,
    "elf.log": b"\x7fELF" + b"\0" * 4000,
    "missing.log": None,
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_file_that_is_wrong_as_a_whole(learned: Run, tmp_path: Path, name: str) -> None:
    content = WRONG_FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for command in (["judge"], ["evaluate", "--label", "0"], ["learn", "--label", "0"]):
        result = learned(*command, tmp_path / name, "--source", "svc")
        assert result.code == 2, result
        (line,) = result.err.strip().splitlines()
        assert line.startswith("error: ")
        assert name in line
        assert "Traceback" not in result.err


def test_a_directory(learned: Run, tmp_path: Path) -> None:
    refused = learned("evaluate", tmp_path, "--source", "svc", "--label", "0")
    assert (refused.code, "is a directory: name the files in it" in refused.err) == (2, True)
    (tmp_path / "empty").mkdir()
    nothing = learned("judge", tmp_path / "empty", "--source", "svc")
    assert (nothing.code, "the folder has no file that can be read" in nothing.err) == (2, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(learned: Run, cases: Path) -> None:
    cases.chmod(0)
    result = learned("judge", cases, "--source", "svc")
    assert (result.code, "permission" in result.err.lower()) == (2, True)


def test_a_missing_label_column_names_the_columns(learned: Run, cases: Path) -> None:
    for command in ("learn", "evaluate"):
        result = learned(command, cases, "--source", "svc", "--label", "Lable", "--text", "Content")
        assert result.code == 2
        assert "'Lable'" in result.err
        assert "Label" in result.err
        assert "Content" in result.err


def test_an_unknown_source_names_the_sources(learned: Run, cases: Path) -> None:
    for command in (["judge", cases], ["evaluate", cases, "--label", "Label"]):
        result = learned(*command, "--source", "nope")
        assert (result.code, "svc" in result.err) == (2, True)


@pytest.mark.parametrize("name", ["../evil", "", "a" * 80, "a b", "ümlaut", "-x"])
def test_a_name_that_no_source_can_have(learned: Run, cases: Path, name: str) -> None:
    result = learned("learn", cases, f"--source={name}", "--label", "Label")
    assert (result.code, "Traceback" in result.err) == (2, False)


def test_no_normal_label_at_all_is_pointed_out(run: Run, cases: Path) -> None:
    result = run("learn", cases, "--source", "svc", "--label", "Label", "--normal", "good", "--brief", "x")
    assert result.code == 0
    assert "no record is labelled normal" in result.out


def test_an_unknown_label_in_correct_is_a_usage_error(learned: Run) -> None:
    assert learned("correct", "v000000000000", "strange").code == 2
    unknown = learned("correct", "v000000000000", "normal")
    assert (unknown.code, "no verdict" in unknown.err) == (2, True)


# what is wrong with a line: exit 1, the line is named, everything else is judged

WRONG_LINES = {
    "broken.csv": (b"Label,Content\n-,fine\nonly one\n-,fine too\n", 2, "broken.csv:3: expected 2 columns, found 1"),
    "broken.jsonl": (b'{"text": "a fine line"}\n{"text": \n{"text": "b"}\n', 2, "broken.jsonl:2: not JSON"),
}


@pytest.mark.parametrize("name", WRONG_LINES)
def test_a_broken_line_is_named_and_all_others_judged(learned: Run, tmp_path: Path, name: str) -> None:
    content, judged, message = WRONG_LINES[name]
    (tmp_path / name).write_bytes(content)
    result = learned("judge", tmp_path / name, "--source", "svc", "--to", "jsonl")
    assert result.code == 1
    assert len(_verdicts(result)) == judged
    assert message in result.err


def test_a_row_without_a_label_is_named_by_learn_and_judged_by_judge(learned: Run, tmp_path: Path) -> None:
    path = tmp_path / "partly.csv"
    path.write_text("Label,Content\n-,service copied a file\n,service lost a file\n", encoding="utf-8")
    assert learned("judge", path, "--source", "svc", "--to", "jsonl").code == 0
    result = learned("learn", path, "--source", "svc", "--label", "Label", "--text", "Content")
    assert (result.code, "partly.csv:3: no label" in result.err) == (1, True)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"service \xff\xfe lost a file\n", "not UTF-8"),
        (b"service \x00 lost a file\n" + b"more text here\n" * 200, "NUL"),
        (b"A" * 10_000_000 + b"\nservice lost a file\n", "shortened from 10000000"),
    ],
    ids=["mixed encodings", "NUL bytes", "10 MB line"],
)
def test_odd_bytes_are_judged_and_noted(learned: Run, tmp_path: Path, content: bytes, note: str) -> None:
    (tmp_path / "odd.log").write_bytes(content)
    result = learned("judge", tmp_path / "odd.log", "--source", "svc", "--to", "jsonl", "--format", "log")
    assert result.code == 0, result.err
    assert len(_verdicts(result)) == content.count(b"\n")
    assert note in result.err


def test_gzip_and_zstandard(learned: Run, cases: Path, tmp_path: Path) -> None:
    import zstandard

    plain = cases.read_bytes()
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "c.csv.zst").write_bytes(zstandard.compress(plain))
    for name in ("c.csv.gz", "c.csv.zst"):
        assert len(_verdicts(learned("judge", tmp_path / name, "--source", "svc", "--to", "jsonl"))) == 36


def test_a_model_file_with_a_wrong_hash_is_refused(learned: Run, tmp_path: Path) -> None:
    from llm.weights.catalog import catalog

    name = catalog()["qwen2.5-coder-0.5b"].weights.path
    fake = tmp_path / Path(name).name
    fake.write_bytes(b"GGUF" + b"\0" * 1000)
    result = learned("judge", "-", "--source", "svc", "--model", fake, "--to", "jsonl", stdin=b"something brand new\n")
    assert result.code == 3
    assert fake.name in result.err
    assert "SHA-256" in result.err
    assert result.out == ""


@pytest.mark.network
@pytest.mark.enable_socket
def test_doctor_lists_what_is_installed(run: Run) -> None:
    result = run("doctor")
    assert result.code == 0
    for what in ("Python", "embedding model", "Ollama", "data directory", "disk"):
        assert what in result.out


@pytest.mark.network
@pytest.mark.enable_socket
def test_doctor_lists_what_is_missing_and_how_to_get_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRECEDENT_CACHE", str(tmp_path / "no-models"))
    result = run("doctor")
    assert result.code == 3
    assert "precedent doctor --fetch" in result.out


def test_learning_offline_without_the_embedding_model_is_a_missing_part(
    run: Run, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRECEDENT_CACHE", str(tmp_path / "no-models"))
    result = run("learn", cases, "--source", "svc", "--label", "Label", "--text", "Content")
    assert (result.code, "all-MiniLM-L6-v2" in result.err) == (3, True)


def test_removing_a_source(learned: Run) -> None:
    assert learned("sources", "remove", "svc", "--yes").code == 0
    assert "no source yet" in learned("sources", "list").out


def test_help_takes_less_than_half_a_second_of_processor_time() -> None:
    """The best of three: the machine is noisy, the program is not."""
    best = 9.0
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", "from agent.cli.app import main; main()", "--help"], check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert b"Commands" in done.stdout
    assert best < 0.5


def test_review_lists_what_to_correct_and_five_corrections_fit_the_judge(learned: Run, tmp_path: Path) -> None:
    strange = ("the choir sang", "apples rolled down", "a ship left port", "snow fell", "a \x1b[2J dog barked")
    (tmp_path / "new.log").write_text("".join(f"{text}\n" for text in strange), encoding="utf-8")
    assert "judge records first" in learned("review", "--source", "svc").out
    learned("judge", tmp_path / "new.log", "--source", "svc", "--to", "jsonl")
    shown = learned("review", "--source", "svc", "-n", 9)
    assert shown.code == 0
    assert "precedent correct ID normal|anomalous" in shown.out
    assert "\x1b[2J" not in shown.out
    listed = json.loads(learned("review", "--source", "svc", "-n", 9, "--json").out)
    assert {candidate["record"]["line"] for candidate in listed} == {1, 2, 3, 4, 5}
    assert all(candidate["id"] in shown.out for candidate in listed)
    outputs = [learned("correct", candidate["id"], "anomalous").out for candidate in listed]
    assert ["refitted: 5 changes of its casebook" in output for output in outputs] == [False] * 4 + [True]
    assert learned("review", "--source", "nope").code == 2


def test_a_source_shows_its_drift(learned: Run, tmp_path: Path) -> None:
    (tmp_path / "new.log").write_text("".join(f"robot {i} lost its gripper\n" for i in range(60)), encoding="utf-8")
    learned("judge", tmp_path / "new.log", "--source", "svc", "--to", "jsonl")
    drift = json.loads(learned("sources", "show", "svc", "--json").out)["drift"]
    assert (drift["records"], drift["novel_share"]) == (60, 1.0)
    assert not any("precedent " in finding for finding in drift["findings"]), "commands are for the terminal"
    shown = learned("sources", "show", "svc").out
    assert "drift: 100 % of what the last 60 records say" in shown
    assert "precedent review --source svc" in shown


def test_explain_gives_the_facts_and_the_reason_without_sentences(learned: Run, cases: Path) -> None:
    judged = learned("judge", cases, "--source", "svc", "--to", "jsonl")
    verdict = json.loads(judged.out.splitlines()[0])
    explained = learned("explain", verdict["id"])
    assert explained.code == 0
    first, second = explained.out.splitlines()
    assert first == verdict["explanation"]
    assert second.startswith("(no sentences by the language model: ")
    assert learned("explain", "v000000000000").code == 2


def test_optimise_is_checked_before_anything_is_learned(run: Run, cases: Path) -> None:
    refused = run("learn", cases, "--source", "svc", "--label", "Label", "--optimise", "recall")
    assert (refused.code, "none of f1, accuracy, cost:FP,FN" in refused.err) == (2, True)
    assert "svc" not in run("sources").out


def test_what_was_judged_to_a_file_is_counted(learned: Run, cases: Path, tmp_path: Path) -> None:
    done = learned("judge", cases, "--source", "svc", "--to", "jsonl", "--output", tmp_path / "out.jsonl")
    assert "36 records: " in done.err
    assert str(tmp_path / "out.jsonl") in done.err


def test_bench_quality_shows_what_was_measured_and_refuses_what_is_no_task(run: Run, tmp_path: Path) -> None:
    shown = run("bench", "quality", "--table", "--results", "figures")
    assert shown.code == 0, shown.err
    assert "| task |" in shown.out
    assert (tmp_path / "figures").is_dir()
    wrong = run("bench", "quality", "tea-leaves")
    assert wrong.code == 2
    assert "bgl-templates" in wrong.err


def test_evaluating_leaves_verdicts_and_their_explanations_as_they_are(learned: Run, cases: Path) -> None:
    (first, *_) = _verdicts(learned("judge", cases, "--source", "svc", "--to", "jsonl"))
    figures = learned("evaluate", cases, "--source", "svc", "--label", "Label", "--json")
    assert "36 of 36 records are cases of the source" in figures.err
    assert set(json.loads(figures.out)) == CONTRACT_FIGURES
    assert str(first["explanation"]).splitlines()[0] in learned("explain", first["id"]).out


def test_a_correction_is_followed_whatever_mistakes_cost(learned: Run, cases: Path, tmp_path: Path) -> None:
    done = learned("learn", cases, "--source", "svc", "--label", "Label", "--optimise", "cost:1,100")
    assert done.code == 0, done.err
    (tmp_path / "new.log").write_text("service found nothing to do at all today\n", encoding="utf-8")
    judge = ("judge", "new.log", "--source", "svc", "--to", "jsonl", "--format", "log")
    (before,) = _verdicts(learned(*judge))
    assert before["label"] != "normal"
    learned("correct", before["id"], "normal")
    (after,) = _verdicts(learned(*judge))
    assert after["label"] == "normal"


def test_a_brief_makes_a_source_without_cases(run: Run, tmp_path: Path) -> None:
    assert run("sources", "brief", "fresh", "A copy service. Normal: copies. Anomalous: losses.").code == 0
    assert "Normal: copies" in run("sources", "brief", "fresh").out
    assert run("sources", "brief", "no/name", "A brief").code == 2
    (tmp_path / "new.log").write_text("file lost\n", encoding="utf-8")
    (verdict,) = _verdicts(run("judge", "new.log", "--source", "fresh", "--to", "jsonl", "--format", "log"))
    assert verdict["label"] == "unsure"
    assert verdict["degraded"]


@pytest.mark.parametrize("command", [("sources", "list"), ("keys", "list")], ids=" ".join)
def test_the_data_directory_is_made_for_its_owner(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    home = tmp_path / "home"
    run(*command)
    assert home.stat().st_mode & 0o077 == 0, "it holds people's records"
    home.chmod(0o750)
    run(*command)
    assert home.stat().st_mode & 0o777 == 0o750, "what an administrator set stays"
