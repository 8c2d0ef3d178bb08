"""What documents show is what the code does."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agent.core.prompts import render
from agent.detectors.language import NO_BRIEF

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BULK = (ROOT / "docs" / "bulk.md").read_text(encoding="utf-8")


def test_the_modelfile_says_what_the_prompts_say() -> None:
    modelfile = (ROOT / "Modelfile").read_text(encoding="utf-8")
    found = re.search(r'^SYSTEM """(.*?)"""', modelfile, re.DOTALL | re.MULTILINE)
    assert found
    assert found[1] == render("ollama_system", brief=NO_BRIEF)


def test_the_verdict_in_the_readme_has_the_contracts_keys() -> None:
    from agent.bulk.output import COLUMNS
    from agent.core.records import Verdict

    whole, short = re.findall(r"```json\n(.*?)```", README + BULK, re.DOTALL)
    Verdict.model_validate(json.loads(whole))
    assert tuple(json.loads(short)) == COLUMNS


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def _named_on(line: str) -> tuple[list[Path], list[str]]:
    """The paths of a line of the page, and the other code words that are Python names."""
    code = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", line)
    paths = [ROOT / word for word in code if "/" in word]
    return paths, [word for word in code if word.isidentifier() and not (ROOT / word).exists()]


def test_every_path_of_the_architecture_exists() -> None:
    paths, _ = _named_on(ARCHITECTURE)
    assert len(paths) > 50
    assert [str(path) for path in paths if not path.exists()] == []


def test_each_package_is_a_room_of_the_architecture() -> None:
    """With what its docstring says; `make docs` compares the words."""
    rows = re.findall(r"^\| `([\w/.]+)` \| (.+) \|$", ARCHITECTURE, re.MULTILINE)
    packages = {f"agent/{path.parent.name}/" for path in ROOT.glob("agent/*/__init__.py")}
    assert len(rows) == len(dict(rows))
    assert packages | {"llm/", "retrieval/", "server.py", "agent/__init__.py"} <= set(dict(rows))
    assert all(description.endswith(".") for _, description in rows)


def test_where_to_open_the_code_is_right() -> None:
    """Each task names files and what to look for; the names are in those files."""
    rows = ARCHITECTURE.partition("## Where do I")[2].splitlines()[4:]
    assert len(rows) >= 10
    for row in rows:
        paths, names = _named_on(row)
        text = "".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())
        assert names, row
        missing = [
            name for name in names if not re.search(rf"^\s*(?:def|class) {name}\b|^{name} =", text, re.MULTILINE)
        ]
        assert not missing, row


def test_every_command_in_the_readme_exists() -> None:
    named = set(re.findall(r"\bprecedent ([a-z]+)\b", README)) - {"is", "and"}
    helped = subprocess.run(
        [sys.executable, "-c", "from agent.cli.app import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert {"learn", "judge", "evaluate", "serve", "chat", "sources", "correct", "doctor"} <= named
    assert all(re.search(rf"^  {name} ", helped, re.MULTILINE) for name in named), named


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE)) | set(re.findall(r"`make ([a-z]+)`", README))
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), targets


def test_the_readmes_learn_judge_evaluate_and_python_run_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of "Your own records", then the Python example, on the data directory they made."""
    for name, value in {"HOME": tmp_path / "home", "OFFLINE": "1", "LANGUAGE_BUDGET": "0"}.items():
        monkeypatch.setenv(f"PRECEDENT_{name}", str(value))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shell = "".join(
        block for block in re.findall(r"```sh\n(.*?)```", README + BULK, re.DOTALL) if "examples/postgres" in block
    )
    commands = [line for line in shell.replace("\\\n", "").splitlines() if line.startswith("precedent ")]
    assert len(commands) == 4
    for command in sorted(commands, key=lambda command: "evaluate" in command):
        arguments = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, "-c", "from agent.cli.app import main; main()", *arguments, "--model", "none"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) >= {"f1", "roc_auc", "n"}
    assert len((tmp_path / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()) == json.loads(done.stdout)["n"]
    short = [json.loads(line) for line in (tmp_path / "short.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["label"] for line in short} <= {"anomalous", "unsure"}
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")
    (python,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.setenv("PRECEDENT_MODEL", "none")
    told = subprocess.run(
        [sys.executable, "-c", python], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert told.startswith("anomalous")
