"""`precedent doctor`: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, replace

from agent.cli.options import with_hint
from agent.detectors.contrib.catalog import EXTRAS, hint_of, is_installed
from agent.pipeline.context import AppContext
from llm.errors import ModelFailure
from llm.ollama.client import require_ollama
from llm.ollama.urls import base_url, parse_hosts
from llm.openai.address import PREFIX as OPENAI
from llm.weights.catalog import default_model
from llm.weights.resolver import available, resolve
from retrieval.errors import StoreFailure
from retrieval.store.failures import RESTORE_HINT
from retrieval.store.store_file import damage_of_store

_GIGABYTE = 1024**3


@dataclass(frozen=True)
class Finding:
    """The result of one check; ``required``: nothing can be judged without it."""

    name: str
    ok: bool
    message: str
    required: bool = False


def examine(context: AppContext, fetch: bool = False) -> list[Finding]:
    """Run all checks; with ``fetch``, download missing models."""
    settings = context.settings
    names = {"embedding model": settings.embedder}
    if settings.model == "auto":
        names["language model"] = default_model()
    elif not settings.model.startswith(("ollama:", OPENAI)) and settings.model != "none":
        names["language model"] = settings.model.removeprefix("embedded:")
    findings = [Finding("Python", True, sys.version.split()[0])]
    findings += [_model(context, what, name, fetch, required=what == "embedding model") for what, name in names.items()]
    if settings.model.startswith(OPENAI):
        findings.append(_model_server(context))
    findings += [*_ollama(context), *_extras(), _data(context), _space(context)]
    return findings


def _model(context: AppContext, what: str, name: str, fetch: bool, required: bool) -> Finding:
    settings = context.settings
    try:
        model = available(name, cache=settings.cache)
        if model is None and fetch:
            model = resolve(name, cache=settings.cache, offline=settings.offline)
    except ModelFailure as error:
        return Finding(what, False, with_hint(error), required)
    if model is None:
        return Finding(what, False, f"{name} is not on this machine: `precedent doctor --fetch` gets it", required)
    return Finding(what, True, f"{model.name} at {model.path}", required)


def _model_server(context: AppContext) -> Finding:
    try:
        return Finding("model server", True, context.plain_detector().model.name, required=True)
    except ModelFailure as error:
        return Finding("model server", False, with_hint(error), required=True)


def _ollama(context: AppContext) -> list[Finding]:
    settings = context.settings
    name = settings.model.removeprefix("ollama:") if settings.model.startswith("ollama:") else settings.ollama_model
    required = settings.model.startswith("ollama:")
    findings = []
    for host in parse_hosts(settings.ollama_hosts):
        try:
            model = require_ollama(host, name, 2.0)
            findings.append(Finding("Ollama", True, f"{model.name} at {base_url(host)}", required))
        except ModelFailure as error:
            optional = "" if required else " (optional: the embedded engine works without it)"
            findings.append(Finding("Ollama", False, with_hint(error) + optional))
    if required and not any(finding.ok for finding in findings):
        findings = [replace(finding, required=True) for finding in findings]
    return findings


def _extras() -> list[Finding]:
    optional = "(optional: detectors of the field, tuning)"
    return [
        Finding(f"extra [{name}]", ok := is_installed(name), "installed" if ok else f"{hint_of(name)} {optional}")
        for name in EXTRAS
    ]


def _data(context: AppContext) -> Finding:
    home = context.settings.home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = context.casebook.names()
    except (OSError, StoreFailure) as error:
        return Finding(
            "data directory", False, str(error) if isinstance(error, OSError) else with_hint(error), required=True
        )
    if not os.access(home, os.W_OK):
        return Finding("data directory", False, f"{home} cannot be written to: set PRECEDENT_HOME", required=True)
    if damage := damage_of_store(context.casebook.engine):
        return Finding("data directory", False, f"the store in {home} is damaged ({damage}): {RESTORE_HINT}", True)
    return Finding("data directory", True, f"{home}; sources: {', '.join(names) or 'none yet'}", required=True)


def _space(context: AppContext) -> Finding:
    free = shutil.disk_usage(context.settings.home if context.settings.home.exists() else "/").free
    return Finding("disk", free > _GIGABYTE, f"{free / _GIGABYTE:.1f} GB free")
