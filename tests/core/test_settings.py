"""Settings: which are known, and the errors for wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.errors import UsageError
from agent.core.settings import Settings, settings
from retrieval.store.engine import open_store
from tests.conftest import Run


@pytest.fixture(autouse=True)
def read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRECEDENT_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").touch()
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
    (tmp_path / "config.toml").write_text('modle = "none"\n')
    with pytest.raises(UsageError, match=r"unknown setting 'modle' in .*config.toml; did you mean model\?"):
        settings()


def test_a_wrong_value_names_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECEDENT_PORT", "many")
    with pytest.raises(UsageError, match=r"PRECEDENT_PORT \(or port in .*config.toml\)"):
        settings()


def test_known_settings_and_the_tests_variables_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text('model = "none"\nport = 9000\n')
    monkeypatch.setenv("precedent_port", "9001")
    monkeypatch.setenv("PRECEDENT_TESTS_REQUIRE", "ollama")
    monkeypatch.setenv("PRECEDENT_COMMAND", "precedent")
    assert (settings().model, settings().port) == ("none", 9001)


def test_the_store_and_the_index_are_known_by_the_names_of_other_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text('store = "sqlite:///of-the-file"\n')
    monkeypatch.setenv("PRECEDENT_DATABASE_URL", "postgresql://db/p")
    monkeypatch.setenv("precedent_chroma_url", "http://vectors:8001")
    assert (settings().store, settings().chroma) == ("postgresql://db/p", "http://vectors:8001")
    settings.cache_clear()
    monkeypatch.setenv("PRECEDENT_STORE", "postgresql://other/p")
    with pytest.raises(UsageError, match="PRECEDENT_STORE and PRECEDENT_DATABASE_URL are the same setting"):
        settings()


@pytest.mark.parametrize("name", ["q?mode=ro", "per%20cent%", "a#b", "a b", "ä"])
def test_a_home_of_any_name_holds_its_store(tmp_path: Path, name: str) -> None:
    engine = open_store(Settings(home=tmp_path / name).store_url)
    engine.dispose()
    assert [path.name for path in tmp_path.iterdir() if path.name != "config.toml"] == [name]
    assert (tmp_path / name / "precedent.db").is_file()


def test_a_file_of_the_working_directory_is_not_read(tmp_path: Path, run: Run) -> None:
    (tmp_path / "precedent.toml").write_text('ollama_hosts = "http://evil.example"\n')
    assert settings().ollama_hosts == "127.0.0.1:9"
    assert "precedent.toml of this folder is not read" in run("sources").err
    named = run("--config", "precedent.toml", "sources")
    assert "not read" not in named.err
    assert settings().ollama_hosts == "http://evil.example"


@pytest.mark.parametrize(
    ("values", "remote"),
    [
        ({"ollama_hosts": "127.0.0.1, [::1]:9, localhost:1, http://0.0.0.0:11434, :11434"}, []),
        (
            {"ollama_hosts": "127.0.0.1,gpu-1:11434,https://10.0.0.7"},
            ["ollama_hosts (gpu-1)", "ollama_hosts (10.0.0.7)"],
        ),
        ({"ollama_hosts": "gpu-1", "model": "none"}, []),
        ({"store": "postgresql+psycopg://me:secret@db.example/p"}, ["store (db.example)"]),
        ({"store": "sqlite:////tmp/x.db", "chroma": "http://localhost:8001"}, []),
        (
            {"chroma": "http://vectors:8001", "otlp_endpoint": "http://x:4318"},
            ["chroma (vectors)", "otlp_endpoint (x)"],
        ),
    ],
)
def test_settings_that_send_records_elsewhere_are_named(values: dict[str, str], remote: list[str]) -> None:
    assert Settings.model_validate({"ollama_hosts": "127.0.0.1", **values}).remote_services == remote


def test_the_command_line_says_where_records_may_go(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECEDENT_OTLP_ENDPOINT", "http://collector.example:4318")
    err = run("sources").err
    assert "records may leave this machine by these settings: otlp_endpoint (collector.example)" in err


def test_a_named_file_that_does_not_exist_or_is_not_toml_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("model =\n")
    with pytest.raises(UsageError, match=r"config.toml is not TOML: .*line 1"):
        settings()
    monkeypatch.setenv("PRECEDENT_CONFIG", "nowhere.toml")
    with pytest.raises(UsageError, match=r"'nowhere.toml' \(PRECEDENT_CONFIG\) does not exist"):
        settings()


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
