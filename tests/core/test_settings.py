"""Settings: which are known, and the errors for wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.errors import UsageError
from agent.core.settings import settings
from tests.conftest import Run


@pytest.fixture(autouse=True)
def read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()


def test_an_unknown_variable_is_an_error_that_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECEDENT_MODLE", "none")
    with pytest.raises(UsageError, match=r"unknown setting PRECEDENT_MODLE; did you mean PRECEDENT_MODEL\?"):
        settings()


def test_a_variable_like_no_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECEDENT_ZZZZZZ", "1")
    with pytest.raises(UsageError, match=r"unknown setting PRECEDENT_ZZZZZZ$"):
        settings()


def test_an_unknown_name_in_the_file_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "precedent.toml").write_text('modle = "none"\n')
    with pytest.raises(UsageError, match=r"unknown setting 'modle' in precedent.toml; did you mean model\?"):
        settings()


def test_a_wrong_value_names_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECEDENT_PORT", "many")
    with pytest.raises(UsageError, match=r"PRECEDENT_PORT \(or port in precedent.toml\)"):
        settings()


def test_known_settings_and_the_tests_variables_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "precedent.toml").write_text('model = "none"\nport = 9000\n')
    monkeypatch.setenv("precedent_port", "9001")
    monkeypatch.setenv("PRECEDENT_TESTS_REQUIRE", "ollama")
    monkeypatch.setenv("PRECEDENT_COMMAND", "precedent")
    assert (settings().model, settings().port) == ("none", 9001)


def test_the_command_line_says_it_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECEDENT_HOEM", "/tmp")
    outcome = run_expecting_no_context(run)
    assert outcome == (2, "error: unknown setting PRECEDENT_HOEM; did you mean PRECEDENT_HOME?\n")


def run_expecting_no_context(run: Run) -> tuple[int, str]:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", "from agent.cli.app import main; main()", "sources"], capture_output=True, text=True
    )
    return done.returncode, done.stderr
