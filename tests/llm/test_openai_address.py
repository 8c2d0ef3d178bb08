"""`openai:NAME@URL` as a setting: what it names, and what it refuses. Needs no package of the extra."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from agent.core.errors import UsageError
from agent.core.settings import Settings, settings
from llm.errors import ModelFailure
from llm.factory import identity
from llm.openai.address import parse_spec
from tests.llm.test_factory import choose


@pytest.mark.parametrize(
    ("spec", "name", "url"),
    [
        ("openai:m@http://127.0.0.1:8000/v1", "m", "http://127.0.0.1:8000/v1"),
        ("openai:m@http://h:8000/v1/", "m", "http://h:8000/v1"),
        ("openai:Qwen/Qwen3@awq:4b@https://h/llm/v1", "Qwen/Qwen3@awq:4b", "https://h/llm/v1"),
        ("openai:m@localhost:8000", "m", "http://localhost:8000/v1"),
        ("openai:m@[::1]:8", "m", "http://[::1]:8/v1"),
        ("openai:m@h/v1/chat/completions", "m", "http://h/v1"),
    ],
)
def test_a_spec_has_one_form(spec: str, name: str, url: str) -> None:
    model = parse_spec(spec)
    assert (model.name, model.url) == (name, url)
    assert parse_spec(model.spec) == model
    assert Settings.model_validate({"model": spec}).model == model.spec
    assert identity(spec, "") == (model.spec, None)


@pytest.mark.parametrize(
    "spec",
    [
        "openai:",
        "openai:m",
        "openai:m@",
        "openai:@h",
        "openai:m@ftp://h",
        "openai:m@http://",
        "openai:m@http://h:99999",
        "openai:m@http://h:0",
        "openai:m@http://h\nx",
        "openai:m@http://me:secret@h",
        "openai:m@me:secret@h",
        "openai:m@http://h/v1?key=secret",
        "openai:m@http://h/v1#secret",
    ],
)
def test_a_wrong_spec_is_a_usage_error_that_repeats_no_secret(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert identity(spec, "") is None
    monkeypatch.setenv("PRECEDENT_MODEL", spec)
    settings.cache_clear()
    with pytest.raises(UsageError, match=r"PRECEDENT_MODEL .*: .*openai:NAME@URL") as error:
        settings()
    settings.cache_clear()
    assert "secret" not in str(error.value)


def test_a_server_elsewhere_is_named_and_the_key_is_shown_nowhere() -> None:
    remote = Settings.model_validate({"model": "openai:m@http://gpu-1:8000", "openai_api_key": "sk-secret"})
    assert remote.remote_services == ["model (gpu-1)"]
    assert "sk-secret" not in f"{remote!r} {remote.model_dump_json()}"
    assert Settings.model_validate({"model": "openai:m@127.0.0.1:8000"}).remote_services == []


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("llm.factory.find_spec", lambda name: None if name == "langchain_openai" else found(name))
    with pytest.raises(ModelFailure, match="needs the package langchain-openai") as failure:
        choose("openai:m@127.0.0.1:1", tmp_path)
    assert "precedent-agent[openai]" in str(failure.value.hint)
