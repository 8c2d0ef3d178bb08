"""Fine-tuning a transformer on a source's cases: in folds for honest answers, then on all of them.

What is done is kept in the folder ``work``, so that a training that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.core.errors import MissingPart, Stopped, UsageError
from agent.core.progress import Progress
from agent.core.terminal import plural
from agent.detectors.contrib import tuned
from agent.detectors.contrib.catalog import EXTRAS, hint_of, is_installed
from agent.detectors.contrib.resources import chosen_device
from agent.detectors.persistence import stored_state
from agent.pipeline.context import AppContext
from agent.training.evaluation import classification_figures
from agent.training.kinds import folds_of_anomalies
from agent.training.resumable_work import WORK, prepare_work
from agent.training.tune_trainer import TrainerOptions, train
from llm.weights.checksum import sha256_of
from retrieval.arrays import Bools, Floats, Ints
from retrieval.encoding.representation import Representation
from retrieval.store.fits import Fits

_FEWEST, _MOST, _SEED = 10, 20_000, 20_26


@dataclass(frozen=True)
class TuneResult:
    """What was trained, and how good its out-of-fold answers are.

    Attributes
    ----------
    cases, anomalous : int
    accuracy, precision, recall, f1, roc_auc, average_precision : float
        Of the out-of-fold log-odds at 0; both labels weighed alike in training.
    training_seconds, seconds : float
        Of the training on all cases, and in all, without what an earlier run had done.
    device, base : str
    """

    cases: int
    anomalous: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    roc_auc: float
    average_precision: float
    training_seconds: float
    seconds: float
    device: str
    base: str


def tune_classifier(
    context: AppContext,
    source: str,
    options: TrainerOptions,
    *,
    folds: int,
    resume: bool,
    progress: Progress,
    notify: Callable[[str], None],
) -> TuneResult:
    """Train a classifier on the source's cases, and store it in the source's folder; `refit` then weighs it.

    Parameters
    ----------
    options : TrainerOptions
    folds : int
        Trainings by which cases get answers of a classifier that has not seen them.
    resume : bool
        Whether to go on with a training that was stopped.
    progress, notify : callable
        Take the steps done, and notes for a person.

    Raises
    ------
    UsageError
        The cases are too few, or are not those of the training to go on with.
    MissingPart
        The extra [tune] is not installed, or the base model is not there.
    Stopped
        Ctrl-C was pressed.
    """
    if not is_installed("tune"):
        raise MissingPart(f"tuning needs the extra [tune] ({', '.join(EXTRAS['tune'])})", hint_of("tune"))
    texts, anomalous, kinds = _cases(context, source)
    resources = context.detector_resources(context.source(source))
    assert resources.folder is not None
    folder = resources.folder / tuned.FOLDER
    plan = _plan(texts, anomalous, options, folds)
    work = prepare_work(folder, plan, source, source, resume=resume)
    device = chosen_device(options.device)
    if device == "cpu":
        notify("no GPU is used: training runs on the processor")
    started = time.perf_counter()
    numbers, unseen = folds_of_anomalies(anomalous, kinds, folds, _SEED), np.full(len(texts), np.nan)
    try:
        for number in range(folds):
            rest, held_out = np.flatnonzero(numbers != number), np.flatnonzero(numbers == number)
            part = _Part(f"part {number + 1} of {folds + 1}", number, folds + 1, work / f"fold-{number}", progress)
            unseen[held_out] = _fold(part, texts, anomalous, rest, held_out, options, resume=resume)
        part = _Part(f"part {folds + 1} of {folds + 1}", folds, folds + 1, work / "all", progress)
        final = time.perf_counter()
        model, tokenizer = train(texts, anomalous, options, part.folder, part.steps, resume=resume)
    except Stopped as stop:
        raise Stopped(f"{stop}: `precedent tune classifier --source {source} --resume` goes on") from stop
    now = time.perf_counter()
    result = TuneResult(
        len(texts), int(anomalous.sum()), **classification_figures(unseen > 0, anomalous, unseen),
        training_seconds=now - final, seconds=now - started, device=device, base=options.base,
    )  # fmt: skip
    _store(folder, model, tokenizer, texts, unseen, {**asdict(result), "max_tokens": options.max_tokens})
    shutil.rmtree(work)
    return result


@dataclass(frozen=True)
class _Part:
    """One of the trainings, and how its steps count among all."""

    name: str
    number: int
    parts: int
    folder: Path
    progress: Progress

    def steps(self, done: int, total: int) -> None:
        self.progress("training", self.number * total + done, self.parts * total)


def _fold(
    part: _Part,
    texts: Sequence[str],
    anomalous: Bools,
    rest: Ints,
    held_out: Ints,
    options: TrainerOptions,
    *,
    resume: bool,
) -> Floats:
    """Log-odds of the held-out cases by a classifier of the others; those of a stopped run, if it had them."""
    done = part.folder.with_suffix(".npy")
    if done.is_file():
        return np.asarray(np.load(done, allow_pickle=False))
    trained = train([texts[i] for i in rest], anomalous[rest], options, part.folder, part.steps, resume=resume)
    log_odds, _ = tuned.TextScorer(*trained, options.max_tokens).log_odds([texts[i] for i in held_out])
    # whatever stops it, the file is whole or not there
    draft = done.with_suffix(".new.npy")
    np.save(draft, log_odds)
    draft.replace(done)
    shutil.rmtree(part.folder, ignore_errors=True)
    return log_odds


def _cases(context: AppContext, source: str) -> tuple[list[str], Bools, list[str]]:
    """The texts of the source's templates, as detectors get them, their labels and values of labels.

    Those with both labels are left out.
    """
    row = context.source(source)
    representation = row.representation or Representation()
    labels: dict[str, set[bool]] = {}
    values: dict[str, str] = {}
    for case, _ in context.casebook.by_template(source).values():
        text = representation.comparable_text(case)
        labels.setdefault(text, set()).add(case.label == "anomalous")
        values[text] = case.label_value or case.label
    pairs = sorted((text, label.pop()) for text, label in labels.items() if len(label) == 1)
    if len(pairs) > _MOST:
        chosen = np.random.default_rng(_SEED).choice(len(pairs), _MOST, replace=False)
        pairs = [pairs[i] for i in sorted(chosen)]
    anomalous = np.array([label for _, label in pairs], dtype=bool)
    counts = {"normal": int((~anomalous).sum()), "anomalous": int(anomalous.sum())}
    if min(counts.values()) < _FEWEST:
        has = " and ".join(plural(count, f"{label} template") for label, count in counts.items())
        raise UsageError(f"a classifier needs {_FEWEST} different cases of each label to be tuned: {source} has {has}")
    return [text for text, _ in pairs], anomalous, [values[text] for text, _ in pairs]


def _plan(texts: Sequence[str], anomalous: Bools, options: TrainerOptions, folds: int) -> dict[str, Any]:
    """What a training must share with one that it goes on with."""
    cases = hashlib.sha256(json.dumps([texts, anomalous.tolist()]).encode()).hexdigest()
    trained = {name: value for name, value in asdict(options).items() if name not in ("device", "offline")}
    return {**trained, "folds": folds, "cases": cases}


def _store(
    folder: Path, model: Any, tokenizer: Any, texts: Sequence[str], unseen: Floats, meta: dict[str, Any]
) -> None:
    """Write weights and answers into a folder named by their hash, then name it as the current one."""
    new = folder / "new"
    shutil.rmtree(new, ignore_errors=True)
    model.save_pretrained(new, safe_serialization=True)
    tokenizer.save_pretrained(new)
    np.savez(new / tuned.ANSWERS, texts=np.array([tuned.text_hash(text) for text in texts]), log_odds=unseen)
    sha256 = sha256_of(new / tuned.WEIGHTS)
    target = folder / sha256[:16]
    shutil.rmtree(target, ignore_errors=True)
    new.replace(target)
    draft = folder / f"{tuned.CURRENT}.new"
    sums = {"sha256": sha256, "settings_sha256": tuned.settings_sha256(target)}
    draft.write_text(json.dumps({**meta, "folder": target.name, **sums}), encoding="utf-8")
    draft.replace(folder / tuned.CURRENT)


def remove_older(context: AppContext, source: str) -> None:
    """Remove the classifiers that neither the last training made nor the source's fit or the one before it names."""
    resources, fits = context.detector_resources(context.source(source)), Fits(context.casebook.engine)
    meta = tuned.current(resources)
    if meta is None or resources.folder is None:
        return
    stored = [
        stored_state(fit.models, tuned.TunedClassifier.name)
        for fit in (fits.current(source), fits.earlier(source))
        if fit
    ]
    used = {meta["folder"], WORK, *(str(state["folder"]) for state in stored if state)}
    for path in (resources.folder / tuned.FOLDER).iterdir():
        if path.is_dir() and path.name not in used:
            shutil.rmtree(path)


def with_tuned(names: Sequence[str]) -> tuple[str, ...]:
    """The names of a source's detectors with the tuned classifier."""
    name = tuned.TunedClassifier.name
    return tuple(names) if name in names else (*names, name)


def default_options(context: AppContext, base: str | None, **options: Any) -> TrainerOptions:
    """The options, with the embedding model as the base if none is named."""
    if base is None:
        base = str(context.embedder().folder)
    settings = context.settings
    return replace(TrainerOptions(base, device=settings.device, offline=settings.offline), **options)
