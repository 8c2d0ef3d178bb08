"""docs/ollama.md: every command that needs no download runs as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.private_ollama import PrivateOllama
from tests.conftest import POSTGRES

pytestmark = [pytest.mark.ollama, pytest.mark.enable_socket]
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "ollama.md").read_text(encoding="utf-8")
DOWNLOADS = ("ollama pull ",)
SHELL = ("export ",)


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith(DOWNLOADS + SHELL)]


@pytest.mark.timeout(900)
def test_the_commands_run_as_shown(server: PrivateOllama, tmp_path: Path) -> None:
    """SmolLM2 stands in for the Llama that cannot be had here; the log is cut short."""
    folder = tmp_path / "examples" / "postgres"
    folder.mkdir(parents=True)
    for name, count in (("learn.log", 400), ("judge.log", 60)):
        lines = (POSTGRES / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:count]), encoding="utf-8")
    (tmp_path / "Modelfile").write_text((ROOT / "Modelfile").read_text(encoding="utf-8"), encoding="utf-8")
    server.client.copy("smollm2:base", "llama3.2")
    own = {"PRECEDENT_HOME": str(tmp_path / "home"), "PRECEDENT_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    # a short trial of the model: by one call at a time the default takes minutes
    own["PRECEDENT_LANGUAGE_BUDGET"] = "16"
    environment = {**os.environ, **own, "OLLAMA_HOST": server.host}
    said = {}
    assert len(commands()) >= 8
    for command in commands():
        program, *arguments = shlex.split(command)
        if program == "precedent":
            if arguments[0] == "ollama":
                # the trial takes minutes, see tests/training/test_ollama_trial.py
                arguments += ["--budget", "0"]
            done = subprocess.run(
                [sys.executable, "-c", "from agent.cli.app import main; main()", *arguments],
                cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
        else:
            assert program == "ollama"
            done = subprocess.run(
                [server.binary, *arguments], cwd=tmp_path, env=server.environment,
                capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
        said[command] = done.stdout
    assert "precedent:latest" in next(out for command, out in said.items() if command == "precedent doctor")
    assert len((tmp_path / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()) == 60
    assert {one.name for one in (tmp_path / "shop-model").iterdir()} >= {"Modelfile", "README.md"}
