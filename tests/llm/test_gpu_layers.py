"""Layers on a GPU: none is needed, and one that is demanded and absent is an error."""

from __future__ import annotations

import llama_cpp
import pytest

from agent.core.settings import Settings
from agent.pipeline.context import AppContext
from llm.errors import ModelFailure
from llm.llamacpp.gguf import Weights
from llm.weights.resolver import ResolvedModel


@pytest.mark.skipif(llama_cpp.llama_supports_gpu_offload(), reason="llama.cpp has a GPU here")
def test_a_gpu_that_llama_cpp_lacks_is_an_error(smollm: ResolvedModel) -> None:
    Weights(smollm.path, vocabulary_only=True, gpu_layers=0)
    with pytest.raises(ModelFailure, match=r"gpu_layers = 4, but llama\.cpp was built without a GPU"):
        Weights(smollm.path, vocabulary_only=True, gpu_layers=4)


@pytest.mark.parametrize(
    ("has_gpu", "demanded", "layers"), [(True, None, 999), (True, 0, 0), (True, 7, 7), (False, None, 0)]
)
def test_all_layers_are_on_the_gpu_unless_a_number_is_set(
    smollm: ResolvedModel, monkeypatch: pytest.MonkeyPatch, has_gpu: bool, demanded: int | None, layers: int
) -> None:
    passed = []
    load = llama_cpp.llama_model_load_from_file
    monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: has_gpu)
    monkeypatch.setattr(
        "llama_cpp.llama_model_load_from_file",
        lambda path, params: passed.append(params.n_gpu_layers) or load(path, params),
    )
    Weights(smollm.path, vocabulary_only=True, gpu_layers=demanded)
    assert passed == [layers]


@pytest.mark.parametrize(
    ("values", "layers"), [({"device": "cpu"}, 0), ({}, None), ({"device": "cpu", "gpu_layers": 3}, 3)]
)
def test_the_settings_reach_the_model(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, values: dict[str, object], layers: int | None
) -> None:
    passed: dict[str, object] = {}

    def choose(_: str, **options: object) -> None:
        passed.update(options)
        raise ModelFailure("not loaded")

    monkeypatch.setattr("llm.factory.choose_model", choose)
    context = AppContext(Settings.model_validate({"home": tmp_path, "model": "none", **values}))
    with pytest.raises(ModelFailure, match="not loaded"):
        context.plain_detector()
    assert passed["gpu_layers"] == layers
