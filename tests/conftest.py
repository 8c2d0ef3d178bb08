"""What all tests share: a data directory of their own, no network, the real models from the user's cache."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hypothesis
import pytest

import agent
from agent.cli.app import command
from agent.core.settings import Settings, settings
from agent.pipeline.context import AppContext, default_context
from agent.pipeline.pipeline import build
from agent.scoring.calibration import Objective, reaching_bias
from agent.scoring.fusion import DEFAULT_WITH_LLM, SourceModel
from benchmarks.private_ollama import binary

if TYPE_CHECKING:
    from tests.private_postgres import PrivatePostgres

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
POSTGRES = Path(__file__).resolve().parents[1] / "examples" / "postgres"

# the first example pays for imports, on a noisy machine any may be slow; the same examples at every run
hypothesis.settings.register_profile("precedent", deadline=None, derandomize=True)
hypothesis.settings.load_profile("precedent")
# Ollama on the developer's machine must not change what the tests see
os.environ["OLLAMA_HOST"] = "127.0.0.1:9"
# nor the width that pytest-xdist gives its processes: output that is no terminal is as wide as it needs
os.environ.pop("COLUMNS", None)
# nor the configuration of its user
os.environ["PRECEDENT_CONFIG"] = os.devnull


def make_settings(home: Path, **values: object) -> Settings:
    """Settings with a data directory under the test's folder; never fetching anything."""
    return Settings.model_validate({"home": home, "offline": True, "model": "embedded:qwen2.5-coder-0.5b", **values})


def give_language_weight(context: AppContext, source: str) -> None:
    """Store the source's model as if a trial had shown that the language model helps, whichever it is."""
    row = context.source(source)
    model = SourceModel.of(row.source_model, row.counts)
    with_llm = replace(DEFAULT_WITH_LLM, threshold=model.without_llm.threshold)
    changed = replace(model, with_llm=reaching_bias(with_llm, Objective()))
    context.casebook.set(source, source_model=changed.to_json())


@pytest.fixture
def context(tmp_path: Path) -> Iterator[AppContext]:
    """Real parts on an empty data directory."""
    made = AppContext(make_settings(tmp_path / "home"))
    yield made
    made.close()


@pytest.fixture
def chain(context: AppContext):  # type: ignore[no-untyped-def]
    return build(context)


def missing(what: str, said: str) -> NoReturn:
    """Skip for want of ``what``, saying so; fail where PRECEDENT_TESTS_REQUIRE names it, as it does in CI."""
    if what in os.environ.get("PRECEDENT_TESTS_REQUIRE", "").split(","):
        pytest.fail(said)
    pytest.skip(said)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests ran against a real Ollama, and which."""
    counts = {
        how: sum("ollama" in report.keywords for report in terminalreporter.getreports(how) if report.when in whens)
        for how, whens in {"passed": ("call",), "failed": ("call",), "error": ("setup",), "skipped": ("setup",)}.items()
    }
    if sum(counts.values()):
        found = binary()
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False) if found else None
        named = re.search(r"[\d.]+\d", version.stdout + version.stderr) if version else None
        said = ", ".join(f"{number} {how}" for how, number in counts.items())
        terminalreporter.write_line(f"against a real Ollama ({named[0] if named else 'none found'}): {said}")


@pytest.fixture(scope="session")
def data() -> Path:
    """The shared data sets; a test that needs them skips, saying so, where they are absent."""
    if not DATA.is_dir():
        pytest.skip(f"the public data sets are not at {DATA}")
    return DATA


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """A private PostgreSQL server; skips where there is none."""
    # the driver is not installed everywhere
    from tests.private_postgres import running_postgres

    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store' / 'precedent.db'}"
    return str(request.getfixturevalue("postgres").empty_database())


@dataclass
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`precedent ARGS` in this process, on a data directory of its own, without a language model."""
    monkeypatch.setenv("PRECEDENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRECEDENT_OFFLINE", "1")
    monkeypatch.setenv("PRECEDENT_MODEL", "none")
    monkeypatch.chdir(tmp_path)

    def precedent(*arguments: object, stdin: bytes | None = None) -> Result:
        for kept in (settings, default_context, agent._chain):
            kept.cache_clear()
        monkeypatch.setattr(sys, "argv", ["precedent", *map(str, arguments)])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            command()
        default_context().close()
        said = capfd.readouterr()
        return Result(int(stopped.value.code or 0), said.out, said.err)

    return precedent
