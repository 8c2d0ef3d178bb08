"""`precedent datasets`: what is listed, what is written, and that the printed commands work as they stand."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.conftest import Run


def sms(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    words = ("pub", "home", "train", "lunch", "film")
    lines = [f"ham\tshall we meet at the {words[n % 5]} at {n} today" for n in range(40)]
    lines += [f"spam\tWINNER claim your prize of {n} pounds, call 0900{n}" for n in range(20)]
    path = folder / "SMSSpamCollection"
    path.write_text("\n".join(lines))
    return path


def test_the_list_shows_each_set_and_how_it_is_to_be_had(run: Run) -> None:
    got = run("datasets", "list")
    assert got.code == 0
    assert "mimic-iii" in got.out
    assert "with credentials; licence: PhysioNet" in got.out
    assert "generated here" in got.out


def test_the_list_as_json(run: Run) -> None:
    entries = {entry["name"]: entry for entry in json.loads(run("datasets", "list", "--json").out)}
    assert len(entries) >= 23
    assert entries["20newsgroups"]["sha256"] == {
        "20news-bydate.tar.gz": "8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610"
    }
    assert entries["ieee-cis"]["downloads"] == []


def test_one_set_with_all_that_is_known(run: Run) -> None:
    got = run("datasets", "list", "NSL_KDD")
    assert "source: https://www.unb.ca/cic/datasets/nsl.html" in got.out
    assert "never a feature" in got.out
    assert "SHA-256: not recorded" in run("datasets", "list", "unsw-nb15").out


def test_an_unknown_name_gets_a_suggestion(run: Run) -> None:
    got = run("datasets", "get", "nls-kdd")
    assert got.code == 2
    assert "did you mean nsl-kdd" in got.err


def test_the_printed_commands_learn_and_evaluate(run: Run, tmp_path: Path) -> None:
    sms(tmp_path / "my files")
    got = run("datasets", "get", "sms", "--from", tmp_path / "my files", "--to", tmp_path / "out put")
    assert got.code == 0, got.err
    assert "differs from the recorded 55341228" in got.out
    assert "split: random with seed 0, 30% of the records of each label for testing" in got.out
    commands = [line.strip() for line in got.out.partition("next:\n")[2].splitlines()]
    assert [command.split()[1] for command in commands] == ["learn", "evaluate"]
    for command in commands:
        done = run(*shlex.split(command)[1:], *(["--json"] if "evaluate" in command else []))
        assert done.code == 0, done.err
    figures = json.loads(done.out)
    assert figures["n"] == 18
    assert figures["roc_auc"] > 0.95


def test_a_table_with_kinds_of_anomalies_is_learned(run: Run, tmp_path: Path) -> None:
    rows = [f"{n},tcp,http,SF,{','.join([str(n % 7)] * 37)},normal,3" for n in range(30)]
    rows += [f"{n},udp,ecr_i,REJ,{','.join(['9'] * 37)},{('smurf', 'pod')[n % 2]},3" for n in range(10)]
    for name in ("KDDTrain+.txt", "KDDTest+.txt"):
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    got = run("datasets", "get", "nsl-kdd", "--from", tmp_path, "--json")
    assert got.code == 0
    done = json.loads(got.out)
    assert done["files"][0]["labels"] == {"normal": 30, "smurf": 5, "pod": 5}
    assert json.loads((tmp_path / "nsl-kdd" / "dataset.json").read_text()) == done
    learned = run(*done["commands"][0].split()[1:], "--dry-run")
    assert "30 normal, 10 anomalous" in learned.out
    assert "difficulty" not in learned.out
    assert "attack" not in learned.out


def test_broken_rows_are_named_and_the_exit_code_is_1(run: Run, tmp_path: Path) -> None:
    (tmp_path / "creditcard.csv").write_text("Time,V1,Class\n1,2,0\n2,2\n3,2,1\n")
    got = run("datasets", "get", "creditcard", "--from", tmp_path / "creditcard.csv")
    assert got.code == 1
    assert "1 row left out: expected 3 columns, found 2 (first: creditcard.csv:3)" in got.err
    assert "test.csv: 1 record, 1 anomalous (100.0%): fraud 1" in got.out


def test_what_is_not_here_says_how_to_get_it(run: Run) -> None:
    got = run("datasets", "get", "mimic-iii")
    assert got.code == 3
    assert "with credentials from https://physionet.org/content/mimiciii/1.4/" in got.err
    assert "data use agreement" in got.err
    assert "--from FILE" in got.err
    assert "--download" not in got.err
    assert "`precedent datasets get sms --download` fetches it" in run("datasets", "get", "sms").err


def test_what_needs_an_account_is_not_downloaded(run: Run) -> None:
    got = run("datasets", "get", "creditcard", "--download")
    assert got.code == 2
    assert "creditcard is to be had with an account: --download does not get it" in got.err
    assert "Sign in to Kaggle" in got.err


def test_offline_nothing_is_downloaded(run: Run) -> None:
    got = run("datasets", "get", "sms", "--download")
    assert got.code == 3
    assert "offline is set" in got.err


def test_from_and_download_exclude_each_other(run: Run, tmp_path: Path) -> None:
    assert run("datasets", "get", "sms", "--from", sms(tmp_path), "--download").code == 2


def test_charts_are_generated_without_any_file(run: Run, tmp_path: Path) -> None:
    got = run("datasets", "get", "control-charts", "--rows", "50")
    assert got.code == 0
    assert "read: generated with seed 0" in got.out
    assert "train.csv: 50 records" in got.out
    assert (tmp_path / "control-charts" / "test.csv").is_file()


def test_an_unlabelled_set_is_judged_as_printed(run: Run, tmp_path: Path) -> None:
    for number in range(8):
        path = tmp_path / "maildir" / "allen-p" / "inbox" / f"{number}."
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Subject: meeting {number}\n\nsee you at {number}\n")
    got = run("datasets", "get", "enron", "--from", tmp_path / "maildir")
    assert got.code == 0, got.err
    assert "enron/records.jsonl: 8 records\n" in got.out
    command = got.out.partition("next:\n")[2].strip()
    assert run(*command.split()[1:]).code == 0


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "folder", "train", "test"),
    [
        ("nsl-kdd", "nslkdd", (25_192, 11_743), (22_544, 12_833)),
        ("1000genome", "workflows/1000genome", (4_809, 1_551), (4_809, 1_580)),
        ("sms", "sms", (3_902, 523), (1_672, 224)),
        ("bgl", "logs/bgl/BGL_2k.log", (1_400, 109), (600, 34)),
        ("bgl", "logs/bgl/BGL_2k.log_structured.csv", (1_400, 109), (600, 34)),
        ("hdfs", "hdfs", (4_855, 0), (16_838, 16_838)),
        ("hdfs", "hdfs_100k", (6_352, 256), (1_588, 57)),
    ],
)
def test_the_public_files(
    name: str, folder: str, train: tuple[int, int], test: tuple[int, int], run: Run, data: Path
) -> None:
    got = run("datasets", "get", name, "--from", data / folder, "--json")
    assert got.code == 0, got.err
    done = json.loads(got.out)
    counts = [(file["rows"], file["rows"] - file["labels"].get("normal", 0)) for file in done["files"]]
    assert counts == [train, test]
    assert not done["left_out"]
