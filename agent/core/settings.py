"""Settings: defaults, then a configuration file, then ``PRECEDENT_*`` variables, the later wins.

The file is `precedent.toml` in the user's configuration folder, or the one that ``PRECEDENT_CONFIG`` names. That of the
working directory is not read: it may have come with the records, and could send them to another machine.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Literal
from urllib.parse import quote, urlsplit

from platformdirs import user_cache_path, user_config_path, user_data_path
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from agent.core.errors import UsageError
from agent.core.logs import LogFormat, LogLevel
from llm.openai.address import PREFIX, parse_spec

_PREFIX = "PRECEDENT_"
# what other programs call a setting is read too
_OTHER_NAMES = {"PRECEDENT_DATABASE_URL": "store", "PRECEDENT_CHROMA_URL": "chroma"}
# variables with the prefix that are no settings: the tests', the Makefile's and the documentation's
_NOT_SETTINGS = frozenset({"PRECEDENT_TESTS_REQUIRE", "PRECEDENT_TORTURE", "PRECEDENT_COMMAND", "PRECEDENT_SCREENSHOT"})
CONFIG_VARIABLE = "PRECEDENT_CONFIG"
CONFIG_NAME = "precedent.toml"


class Settings(BaseSettings):
    """All settings. Sizes are in the unit of their name; times are in seconds."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True)

    home: Path = Field(
        default_factory=lambda: user_data_path("precedent"),
        description="data directory: cases, history and the vector index",
    )
    cache: Path = Field(
        default_factory=lambda: user_cache_path("precedent"),
        description="where model files and downloaded data sets are kept",
    )
    store: str | None = Field(
        None,
        description="URL of the relational store, such as postgresql://user@host/name; default SQLite in the data "
        "directory; PRECEDENT_DATABASE_URL is read too",
    )
    chroma: str | None = Field(
        None,
        description="URL of a Chroma server, e.g. http://127.0.0.1:8001; default: embedded; PRECEDENT_CHROMA_URL is "
        "read too",
    )
    model: str = Field(
        "auto",
        description="`auto`, `embedded:NAME` (see catalog.toml), `ollama:NAME`, `openai:NAME@URL` (a server with "
        "OpenAI's interface, such as vLLM), `none`, or a path to a .gguf",
    )
    openai_api_key: SecretStr | None = Field(
        None, description="key of the server of `openai:NAME@URL`; it is shown nowhere"
    )
    ollama_hosts: str = Field(
        default_factory=lambda: os.environ.get("OLLAMA_HOST", "http://127.0.0.1:11434"),
        description="Ollama servers, separated by commas; OLLAMA_HOST is read too",
    )
    ollama_model: str = Field("precedent", description="the Ollama model that `auto` uses when the server has it")
    embedder: str = Field("all-MiniLM-L6-v2", description="embedding model: a catalog name or a folder")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="where PyTorch's models run (embeddings, networks); `auto`: the fastest that it finds"
    )
    gpu_layers: int | None = Field(
        None,
        ge=0,
        description="layers of the embedded language model on a GPU; default: all where llama.cpp was built for one, "
        "none with `device` cpu",
    )
    offline: bool = Field(False, description="never fetch a model; use only what is on this machine")
    context_tokens: int = Field(4096, ge=512, description="context of the language model, in tokens")
    record_tokens: int = Field(
        1024, ge=64, description="longest record the language model reads; longer ones are shortened, visibly"
    )
    max_record_chars: int = Field(65_536, ge=1_024, description="longest record that is kept whole")
    threads: int | None = Field(
        None,
        ge=1,
        description="threads of the language model; default: all cores when embedded, Ollama's own choice there",
    )
    queue_size: int = Field(64, ge=1, description="records and calls that may wait for the language model")
    waiting_records: int = Field(
        4_096,
        ge=1,
        description="records that may wait to be judged by the server; more are refused with 429, unless none waits",
    )
    precedents: int = Field(4, ge=1, le=32, description="nearest cases retrieved of each label")
    language_budget: int = Field(
        200, ge=0, description="most cases that the language model is tried on at the end of `learn`"
    )
    ray_workers: int | None = Field(
        None, ge=1, description="workers of `judge --on ray`; default: one for each processor of the cluster"
    )
    history_days: float | None = Field(
        None,
        gt=0,
        description="older verdicts, in days, are removed by `serve` and `sources prune`; default: any age is kept",
    )
    history_rows: int = Field(
        1_000_000, ge=0, description="newest verdicts that `serve` and `sources prune` keep, of all sources"
    )
    llm_cache_rows: int = Field(
        1_000_000,
        ge=0,
        description="answers of the language model that `serve` and `sources prune` keep, those used last",
    )
    risk: float = Field(
        0.05, gt=0, lt=0.5, description="error rate among decided records that the unsure band is chosen for"
    )
    host: str = Field("127.0.0.1", description="address that `serve` binds to")
    port: int = Field(8000, ge=0, le=65_535, description="port that `serve` binds to")
    api_key: str | None = Field(
        None, description="when set, the server requires `Authorization: Bearer KEY`; named keys: `precedent keys`"
    )
    correction_rate: str = Field(
        "600/hour", description="most corrections with one API key, but those of the role `admin`, such as 600/hour"
    )
    max_body_bytes: int = Field(16 * 1024 * 1024, ge=1_024, description="largest request body")
    request_timeout: float = Field(
        120.0,
        gt=0,
        description="seconds that a request or a model call may take (504 after that); of a streamed answer "
        "(NDJSON, an explanation, the chat) the longest wait for its next piece",
    )
    header_timeout: float = Field(
        20.0, gt=0, description="seconds in which a client sends the headers of a request, or its connection is closed"
    )
    shutdown_timeout: int = Field(
        10, ge=1, description="seconds that requests in progress may take after `serve` received a signal to stop"
    )
    otlp_endpoint: str | None = Field(
        None,
        description="URL of an OpenTelemetry collector (OTLP over HTTP, such as http://127.0.0.1:4318) that `serve` "
        "and `mcp` send spans of the judging steps to; they hold no texts of records",
    )
    log_level: LogLevel = Field("info", description="least severe events that `serve` logs: debug to error")
    log_format: LogFormat = Field("text", description="how `serve` logs: text, or json (one object a line)")

    @field_validator("model")
    @classmethod
    def _has_server(cls, model: str) -> str:
        return parse_spec(model).spec if model.startswith(PREFIX) else model

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources of settings by priority: arguments, the environment, the TOML file."""
        others = InitSettingsSource(settings_cls, init_kwargs=_of_other_names())
        return init_settings, env_settings, others, TomlConfigSettingsSource(settings_cls, toml_file=config_file())

    @property
    def remote_services(self) -> list[str]:
        """The settings that send records, or spans of judging them, to another machine, each with its host."""
        uses_ollama = self.model == "auto" or self.model.startswith("ollama:")
        addresses: list[tuple[str, str | None]] = []
        if uses_ollama:
            addresses += [("ollama_hosts", address) for address in self.ollama_hosts.split(",")]
        if self.model.startswith(PREFIX):
            addresses.append(("model", parse_spec(self.model).url))
        addresses += [("chroma", self.chroma), ("store", self.store), ("otlp_endpoint", self.otlp_endpoint)]
        named = [(name, remote_host(address)) for name, address in addresses if address]
        return [f"{name} ({host})" for name, host in named if host]

    @property
    def store_url(self) -> str:
        """URL of the store; by default an SQLite file in ``home``."""
        return self.store or f"sqlite:///{quote(str(self.home / 'precedent.db'))}"


def _of_other_names() -> dict[str, str]:
    """The settings that variables of other names give."""
    given = {variable.upper(): value for variable, value in os.environ.items()}
    return {name: given[other] for other, name in _OTHER_NAMES.items() if other in given}


def remote_host(address: str) -> str | None:
    """The host of a URL, or of ``host:port``; None for this machine."""
    try:
        host = urlsplit(address.strip() if "://" in address else f"//{address.strip()}").hostname
    except ValueError:
        # whoever connects refuses it
        return address
    return None if host is None or _is_loopback(host) else host


def _is_loopback(host: str) -> bool:
    try:
        # the address of every interface is this machine to a client
        return ip_address(host).is_loopback or ip_address(host).is_unspecified
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def config_file() -> Path:
    """The configuration file, which need not exist unless ``PRECEDENT_CONFIG`` names it."""
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else user_config_path("precedent") / CONFIG_NAME


def ignored_config() -> str | None:
    """A sentence about a configuration file in the working directory that is not read; None without one."""
    here = Path(CONFIG_NAME)
    if not here.is_file() or here.absolute() == config_file().absolute():
        return None
    return (
        f"{CONFIG_NAME} of this folder is not read, since it may have come with the records; to use it: "
        f"`precedent --config {CONFIG_NAME} …`, {CONFIG_VARIABLE}, or {user_config_path('precedent') / CONFIG_NAME}"
    )


@cache
def settings() -> Settings:
    """The process's settings, read once.

    Raises
    ------
    UsageError
        A setting is unknown or its value is not valid, or the named configuration file does not exist.
    """
    file = config_file()
    if os.environ.get(CONFIG_VARIABLE) and not file.exists():
        raise UsageError(f"the configuration file {str(file)!r} ({CONFIG_VARIABLE}) does not exist")
    fields = {_PREFIX + name.upper() for name in Settings.model_fields}
    known = fields | _NOT_SETTINGS | {CONFIG_VARIABLE, *_OTHER_NAMES}
    for variable in os.environ:
        if (name := variable.upper()).startswith(_PREFIX) and name not in known:
            raise UsageError(f"unknown setting {variable}{_nearest(name.removeprefix(_PREFIX), _PREFIX)}")
    for name, value in _of_other_names().items():
        if os.environ.get(variable := _PREFIX + name.upper(), value) != value:
            other = next(other for other, setting in _OTHER_NAMES.items() if setting == name)
            raise UsageError(f"{variable} and {other} are the same setting and have different values: set one of them")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            message = f"unknown setting {name!r} in {file}{_nearest(name)}"
            raise UsageError(message) from error
        reason = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{_PREFIX}{name.upper()} (or {name} in {file}): {reason}") from error
    except (TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not TOML: {error}") from error
    except OSError as error:
        raise UsageError(f"the configuration file {file} cannot be read: {error.strerror or error}") from error


def _nearest(name: str, prefix: str = "") -> str:
    """The suggestion of a setting by that name, if there is one like it."""
    close = get_close_matches(name.lower(), Settings.model_fields, n=1)
    suggested = f"{prefix}{close[0].upper()}" if close and prefix else "".join(close)
    return f"; did you mean {suggested}?" if close else ""
