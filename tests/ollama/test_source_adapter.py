"""A source's adapter (`precedent tune lora`) on a real server: its model has it, and answers as the embedded engine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from agent.core.errors import UsageError
from agent.core.prompts import PromptVariant
from agent.detectors.language import ANSWERS, build_messages
from agent.detectors.lora import SourceAdapter
from agent.pipeline.context import AppContext
from agent.scoring.fusion import SourceModel
from agent.training.ollama_adapter import LocalModel
from agent.training.ollama_export import of_gguf
from agent.training.ollama_lora import adapter_of, compose_adapted
from benchmarks.private_ollama import PrivateOllama
from llm.llamacpp.adapter import LowRank, adapter_file
from llm.llamacpp.backend import LlamaCppBackend
from llm.llamacpp.gguf import Weights
from tests.ollama.conftest import BRIEF, gguf

pytestmark = [pytest.mark.ollama, pytest.mark.enable_socket]


def test_a_sources_adapter_is_part_of_its_model(server: PrivateOllama, parts_on: Callable[..., AppContext]) -> None:
    """What `tune lora` has trained: here numbers that turn every answer around."""
    path, weights = gguf("smollm2-135m"), Weights(gguf("smollm2-135m"))
    context = parts_on(server.host, f"{path}")
    plain = context.language_detector().model
    assert isinstance(plain, LlamaCppBackend)
    assert plain.sha256 is not None
    random, width = np.random.default_rng(3), weights.lib.llama_model_n_embd(weights.model)
    pair = LowRank(
        random.normal(size=(2, width)).astype(np.float32), 0.5 * random.normal(size=(width, 2)).astype(np.float32)
    )
    name = f"blk.{weights.layers - 1}.attn_output.weight"
    content = adapter_file(weights.architecture, {name: pair})
    sha256 = hashlib.sha256(content).hexdigest()
    adapter = SourceAdapter(sha256, plain.sha256, PromptVariant(reference=0.0), frozenset())
    row = context.source("jobs")
    folder = context.detector_resources(row).folder
    assert folder is not None
    file = adapter.file(folder)
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    context.casebook.set("jobs", source_model=replace(SourceModel(), adapter=adapter.to_json()).to_json())
    assert adapter_of(context, "jobs", path) == adapter
    assert adapter_of(context, "jobs", gguf("qwen2.5-coder-0.5b")) is None
    model = LocalModel(path, 1024)
    modelfile, note = compose_adapted(context, "jobs", adapter, model, of_gguf(path), 0, lambda task, done, total: None)
    assert "not measured" in note
    assert "ADAPTER ./adapter.gguf" in modelfile.render()
    modelfile.create(server.host, "precedent-jobs")
    served = parts_on(server.host, "ollama:precedent-jobs").language_detector().model
    assert served.name == "ollama:precedent-jobs"
    assert served.adapter_sha256 == adapter.sha256
    base = parts_on(server.host, "ollama:precedent-jobs:base").language_detector().model
    assert base.adapter_sha256 is None
    adapted = context.language_detector(context.source("jobs")).model
    assert adapted.adapter_sha256 == adapter.sha256
    messages = build_messages(BRIEF, "job 12 crashed")
    with_it, without, here = (each.answer_log_probabilities(messages, ANSWERS) for each in (served, base, adapted))
    change = with_it["anomalous"] - without["anomalous"]
    assert abs(change) > 0.2
    assert abs(with_it["anomalous"] - here["anomalous"]) < abs(change) / 2
    file.write_bytes(b"other")
    with pytest.raises(UsageError, match="is damaged"):
        compose_adapted(context, "jobs", adapter, model, of_gguf(path), 0, lambda task, done, total: None)
