"""A source with an adapter of its language model (`precedent tune lora`), as a model for Ollama.

The model answers with one word, as the judge reads it. It has no examples: with the judge's own prompt in its requests
it judges as the embedded engine does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agent.core.errors import UnknownSource, UsageError
from agent.core.progress import Progress
from agent.detectors.language import ANSWERS, build_messages, without_leading_masks
from agent.detectors.lora import SourceAdapter
from agent.pipeline.context import AppContext
from agent.training.ollama_adapter import LocalModel
from agent.training.ollama_probe import balanced_accuracy
from llm.llamacpp.backend import LlamaCppBackend
from llm.llamacpp.chat_model import EmbeddedChatModel
from llm.ollama.modelfile import Family, Modelfile
from llm.weights.checksum import cached_sha256, sha256_of
from retrieval.encoding.representation import Representation

_ANSWER_TOKENS = 4


def adapter_of(context: AppContext, source: str, weights: Path) -> SourceAdapter | None:
    """The source's adapter, if it is one of these weights."""
    row = context.casebook.source(source)
    if row is None:
        raise UnknownSource(source, context.casebook.names())
    adapter = SourceAdapter.of(row.source_model)
    if adapter is None or adapter.weights_sha256 != cached_sha256(weights, context.settings.cache):
        return None
    return adapter


def compose_adapted(
    context: AppContext,
    source: str,
    adapter: SourceAdapter,
    model: LocalModel,
    family: Family,
    budget: int,
    progress: Progress,
) -> tuple[Modelfile, str]:
    """The Modelfile of a source with its adapter, and how good its answers are.

    Parameters
    ----------
    budget : int
        The most calls to measure that, on cases that the adapter was not trained on; 0: it is not measured.

    Raises
    ------
    UsageError
        The adapter's file is missing, or is another one.
    """
    row = context.source(source)
    folder = context.detector_resources(row).folder
    assert folder is not None
    path = adapter.file(folder)
    if not path.is_file() or sha256_of(path) != adapter.sha256:
        raise UsageError(
            f"the adapter of {source} is not at {path}, or is damaged",
            f"`precedent tune lora --source {source}` trains it again, with --remove it is not used",
        )
    system = str(build_messages(row.brief, "", (), adapter.prompt)[0].content)
    numbers = {"temperature": 0, "seed": 0, "num_ctx": model.context_tokens, "num_predict": _ANSWER_TOKENS}
    modelfile = Modelfile(str(model.path), system, family, numbers, (), path.read_bytes())
    note = f"The adapter of {source} (SHA-256 {adapter.sha256[:16]}…): it answers with one word"
    return modelfile, f"{note}; {_measured(context, source, adapter, model, path, budget, progress)}."


def _measured(
    context: AppContext,
    source: str,
    adapter: SourceAdapter,
    model: LocalModel,
    path: Path,
    budget: int,
    progress: Progress,
) -> str:
    """How often the word is right, on cases of each label that the adapter has not seen."""
    row = context.source(source)
    representation = row.representation or Representation()
    cases = [case for case, _ in context.casebook.by_template(source).values() if case.key in adapter.held_out]
    by_label = [[case for case in cases if case.label == label] for label in ANSWERS]
    chosen = [case for of_label in by_label for case in of_label[: budget // 2]]
    if min(map(len, by_label)) == 0 or budget < 2:
        return "how often that is right was not measured"
    chat = EmbeddedChatModel(
        model_path=model.path,
        model_sha256=adapter.weights_sha256,
        context_tokens=model.context_tokens,
        threads=model.threads,
    )
    backend = LlamaCppBackend(chat).with_adapter(path, adapter.sha256, adapter.weights_sha256)
    log_odds = np.zeros(len(chosen))
    try:
        for i, case in enumerate(chosen):
            text, _ = backend.clip(without_leading_masks(representation.masked(case)), context.settings.record_tokens)
            answers = backend.answer_log_probabilities(build_messages(row.brief, text, (), adapter.prompt), ANSWERS)
            log_odds[i] = answers["anomalous"] - answers["normal"]
            progress("measuring the adapter", i + 1, len(chosen))
    finally:
        backend.close()
    anomalous = np.array([case.label == "anomalous" for case in chosen])
    return (
        f"balanced accuracy {balanced_accuracy(log_odds, anomalous):.2f} without precedents, on {len(chosen)} cases "
        "that it was not trained on"
    )
