"""Tuning a source's language model: an adapter is trained on its cases, and kept if it helps on other kinds of them.

Whether it helps is measured with the file that the embedded engine loads, not in PyTorch. What is done of a training is
kept in the folder ``work``, so that one that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from agent.core.errors import MissingPart, Stopped, UsageError
from agent.core.progress import Progress
from agent.core.prompts import PromptVariant
from agent.core.terminal import plural
from agent.detectors.contrib.catalog import hint_of
from agent.detectors.contrib.resources import chosen_device
from agent.detectors.language import ANSWERS, LanguageDetector, build_messages, examples_for
from agent.detectors.lora import FOLDER, GGUF, SourceAdapter
from agent.pipeline.context import AppContext
from agent.scoring.fusion import SourceModel
from agent.training.lora_cases import LoraCases, lora_cases
from agent.training.lora_evidence import LoraEvidence, evidence
from agent.training.lora_network import LoraNetwork, LoraOptions
from agent.training.lora_trainer import LoraTraining
from agent.training.prompt_selection import PromptTrial
from agent.training.resumable_work import WORK, prepare_work
from llm.errors import ModelFailure
from llm.llamacpp.adapter import adapter_file
from llm.llamacpp.backend import LlamaCppBackend
from llm.llamacpp.chat_template import Prompt
from llm.weights.checksum import sha256_of
from retrieval.arrays import Floats
from retrieval.store.fits import Fits

_PACKAGES = ("accelerate", "gguf", "peft")
_NOT_SHARED = ("device", "offline")


@dataclass(frozen=True)
class LoraResult:
    """What was trained, and whether it helps.

    Attributes
    ----------
    adapter : SourceAdapter or None
        None if it does not help: then nothing of it is left.
    evidence : LoraEvidence
    trained : int
        Cases that it was trained on.
    by_kind : bool
        Whether the held-out cases are of other kinds than these.
    training_seconds, seconds : float
        Of the training, and in all, without what an earlier run had done.
    steps : int
    device : str
    model : str
    """

    adapter: SourceAdapter | None
    evidence: LoraEvidence
    trained: int
    by_kind: bool
    training_seconds: float
    seconds: float
    steps: int
    device: str
    model: str


def tune_lora(
    context: AppContext,
    source: str,
    options: LoraOptions,
    *,
    most_cases: int,
    resume: bool,
    progress: Progress,
    notify: Callable[[str], None],
) -> LoraResult:
    """Train an adapter of the embedded engine's model; `refit` then measures its weight among the signals.

    Parameters
    ----------
    most_cases : int
        Cases that are trained on or held out, at most.
    resume : bool
        Whether to go on with a training that was stopped.
    progress, notify : callable
        Take the steps done, and notes for a person.

    Raises
    ------
    UsageError
        The judge's model is not embedded, or the cases are too few, or not those of the training to go on with.
    MissingPart
        The extra [tune] is not installed, or the weights cannot be loaded.
    Stopped
        Ctrl-C was pressed.
    """
    started = time.perf_counter()
    _check_extra()
    row, detector = context.source(source), context.language_detector()
    backend = detector.model
    if not isinstance(backend, LlamaCppBackend):
        raise UsageError(
            f"an adapter is trained for an embedded model, and the judge's is {backend.name}",
            "--model embedded:qwen2.5-coder-0.5b, or the path of a .gguf file",
        )
    cases = lora_cases(context, source, most_cases)
    variant = replace(SourceModel.of(row.source_model, row.counts).prompt, reference=0.0, templates=0)
    prompted = _PromptedModel(detector, row.brief, variant)
    folder = context.detector_resources(row).folder
    assert folder is not None
    folder /= FOLDER
    work = prepare_work(
        folder, _plan(cases, options, backend.sha256, prompted), source, f"an adapter of {source}", resume=resume
    )
    options = replace(options, device=_device(options.device, notify))
    try:
        network = LoraNetwork(backend.chat.weights, options, ANSWERS)
        prompts, places = _prompts(prompted, cases, options.most_tokens, notify)
        training = LoraTraining(network, prompts, cases.anomalous[places], options, work, progress, notify)
        began = time.perf_counter()
        steps = training.run()
        training_seconds = time.perf_counter() - began
        assert backend.sha256 is not None
        adapter = _store(folder, network, SourceAdapter("", backend.sha256, variant, cases.held_out_keys))
        after = replace(prompted, detector=context.adapted_detector(row, adapter))
        found = _measured(prompted, after, cases, progress)
    except (Stopped, KeyboardInterrupt) as stop:
        why = str(stop) or "stopped; what was trained is kept"
        raise Stopped(f"{why}: `precedent tune lora --source {source} --resume` goes on") from stop
    shutil.rmtree(work)
    if not found.helps:
        remove_unused(context, source)
    return LoraResult(
        adapter if found.helps else None, found, len(places), cases.by_kind, training_seconds,
        time.perf_counter() - started, steps, options.device, backend.name,
    )  # fmt: skip


def _measured(before: _PromptedModel, after: _PromptedModel, cases: LoraCases, progress: Progress) -> LoraEvidence:
    """Answers about the held-out cases without and with the adapter."""
    out = np.flatnonzero(cases.held_out).tolist()
    trials = [cases.trials[i] for i in out]
    return evidence(
        before.answers(trials, "measuring without the adapter", progress),
        after.answers(trials, "measuring with the adapter", progress),
        cases.anomalous[out],
        cases.kinds[out],
    )


def default_options(context: AppContext, base: str | None, **options: Any) -> LoraOptions:
    """The options, with the device of the settings."""
    settings = context.settings
    return replace(LoraOptions(base, device=settings.device, offline=settings.offline), **options)


def remove_unused(context: AppContext, source: str) -> None:
    """Remove adapters that neither the source's fit nor the one before it names."""
    row, fits = context.source(source), Fits(context.casebook.engine)
    folder = context.detector_resources(row).folder
    assert folder is not None
    if not (folder / FOLDER).is_dir():
        return
    adapters = [SourceAdapter.of(fit.source_model) for fit in (fits.current(source), fits.earlier(source)) if fit]
    used = {adapter.file(folder).parent.name for adapter in adapters if adapter}
    for path in (folder / FOLDER).iterdir():
        if path.is_dir() and path.name not in used | {WORK}:
            shutil.rmtree(path)


@dataclass(frozen=True)
class _PromptedModel:
    """A language model with a source's brief and prompt."""

    detector: LanguageDetector
    brief: str
    variant: PromptVariant

    def prompt(self, case: PromptTrial) -> Prompt:
        """The tokens that the engine reads about a case."""
        backend = self.detector.model
        assert isinstance(backend, LlamaCppBackend)
        near = examples_for(case.near, self.variant)
        text, examples, _ = self.detector.fitted(self.brief, case.text, self.variant, near)
        return backend.chat.prompt(build_messages(self.brief, text, examples, self.variant))

    def answers(self, cases: Sequence[PromptTrial], task: str, progress: Progress) -> Floats:
        """Log-odds of the model, shape (n,). Raises ModelFailure if it gives no answer."""
        out = np.zeros(len(cases))
        for i, case in enumerate(cases):
            near = examples_for(case.near, self.variant)
            signal = self.detector.query(self.brief, case.text, self.variant, near)
            if signal.log_odds is None:
                raise ModelFailure(signal.degraded or "the language model gave no answer")
            out[i] = signal.log_odds
            progress(task, i + 1, len(cases))
        return out


def _check_extra() -> None:
    if not all(map(find_spec, _PACKAGES)):
        raise MissingPart(f"tuning needs the extra [tune] ({', '.join(_PACKAGES)})", hint_of("tune"))


def _device(wanted: str, notify: Callable[[str], None]) -> str:
    """The device to train on."""
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        notify("there is no GPU that PyTorch can use (device = cuda): training runs on the processor")
        return "cpu"
    device = chosen_device(wanted)
    if device == "cpu":
        notify("no GPU is used: training runs on the processor")
    return device


def _prompts(
    prompted: _PromptedModel, cases: LoraCases, most_tokens: int, notify: Callable[[str], None]
) -> tuple[list[Prompt], list[int]]:
    """The prompts of the cases to train on, and these cases' places."""
    places = np.flatnonzero(~cases.held_out).tolist()
    prompts = {i: prompted.prompt(cases.trials[i]) for i in places}
    kept = [i for i in places if len(prompts[i]) <= most_tokens]
    if len(kept) < len(places):
        notify(f"{plural(len(places) - len(kept), 'case')} of over {most_tokens:,} tokens are not trained on")
    if len(set(cases.anomalous[kept].tolist())) < 2:
        raise UsageError(f"the cases of a label are all longer than {most_tokens:,} tokens")
    return [prompts[i] for i in kept], kept


def _plan(
    cases: LoraCases, options: LoraOptions, weights_sha256: str | None, prompted: _PromptedModel
) -> dict[str, Any]:
    """What a training must share with one that it goes on with."""
    content = [[case.text, [list(near) for near in case.near]] for case in cases.trials]
    state = [content, cases.anomalous.tolist(), cases.held_out.tolist()]
    digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()
    shared = {name: value for name, value in asdict(options).items() if name not in _NOT_SHARED}
    prompt = hashlib.sha256(json.dumps([prompted.brief, asdict(prompted.variant)]).encode()).hexdigest()
    return {**shared, "weights": weights_sha256, "cases": digest, "prompt": prompt}


def _store(folder: Path, network: LoraNetwork, adapter: SourceAdapter) -> SourceAdapter:
    """Write the adapter as safetensors (PEFT's layout) and as GGUF, into a folder named by the GGUF file's hash."""
    new = folder / "new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    # no embeddings are trained; to find that out, peft would look for the base model's configuration
    network.model.save_pretrained(str(new), safe_serialization=True, save_embedding_layers=False)
    (new / GGUF).write_bytes(adapter_file(network.architecture, network.additions()))
    adapter = replace(adapter, sha256=sha256_of(new / GGUF))
    target = adapter.file(folder.parent).parent
    shutil.rmtree(target, ignore_errors=True)
    new.replace(target)
    return adapter
