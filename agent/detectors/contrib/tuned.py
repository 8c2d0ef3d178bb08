"""The classifier that `precedent tune classifier` has trained for a source, as a detector.

A fit of the source trains nothing: it takes the out-of-fold answers that the training has kept, and scores cases that
came since, which the classifier has not seen.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from agent.core.errors import DetectorError
from agent.core.records import Signal
from agent.detectors.base import Detector, DetectorInput, Need, TrainingCase
from agent.detectors.contrib.resources import NO_RESOURCES, Resources, chosen_device
from retrieval.arrays import Floats, Ints

FOLDER, CURRENT, ANSWERS, WEIGHTS = "classifier", "current.json", "out_of_fold.npz", "model.safetensors"
_BATCH, _LIMIT = 32, 8.0


def text_hash(text: str) -> str:
    """The name of a text among out-of-fold answers."""
    return hashlib.sha256(text.encode()).hexdigest()


def settings_sha256(folder: Path) -> str:
    """SHA-256 of the classifier's settings and its tokenizer: all files beside the weights and the answers."""
    from llm.weights.checksum import sha256_of

    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in (WEIGHTS, ANSWERS))
    return hashlib.sha256(json.dumps([(path.name, sha256_of(path)) for path in files]).encode()).hexdigest()


def current(resources: Resources) -> dict[str, Any] | None:
    """What is stored of the source's classifier, None if none was trained: its folder, and how it was trained."""
    path = resources.folder and resources.folder / FOLDER / CURRENT
    return json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else None


class TextScorer:
    """A trained classifier: texts to log-odds of *anomalous*. Safe to share between threads."""

    def __init__(self, network: Any, tokenizer: Any, max_tokens: int) -> None:
        self._network, self._tokenizer, self._max_tokens = network.eval(), tokenizer, max_tokens
        self._lock = threading.Lock()

    @classmethod
    def load(cls, folder: Path, device: str, max_tokens: int) -> TextScorer:
        """The classifier in a folder.

        Raises
        ------
        DetectorError
            It cannot be loaded.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            network = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise DetectorError(f"the tuned classifier in {folder} cannot be loaded: {error}") from error
        return cls(network.to(chosen_device(device)), tokenizer, max_tokens)

    def log_odds(self, texts: Sequence[str]) -> tuple[Floats, list[bool]]:
        """Log-odds of n texts, shape (n,), and of which only the beginning was read."""
        import torch

        out, cut = np.zeros(len(texts)), [False] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            with self._lock, torch.inference_mode():
                all_tokens = self._tokenizer([texts[i] for i in batch], verbose=False)["input_ids"]
                encoded = self._tokenizer(
                    [texts[i] for i in batch],
                    truncation=True,
                    max_length=self._max_tokens,
                    padding=True,
                    return_tensors="pt",
                ).to(self._network.device)
                logits = self._network(**encoded).logits.float().cpu().numpy()
            out[batch] = logits[:, 1] - logits[:, 0]
            for i, tokens in zip(batch, all_tokens, strict=True):
                cut[i] = len(tokens) > self._max_tokens
        # the other texts of a batch change an answer in the sixth digit
        return np.asarray(np.round(np.clip(out, -_LIMIT, _LIMIT), 4), dtype=np.float64), cut


class TunedClassifier(Detector):
    """The source's tuned classifier.

    Parameters
    ----------
    scorer : TextScorer
    meta : dict
        See `current`.
    """

    name: ClassVar[str] = "tuned"
    needs: ClassVar[frozenset[Need]] = frozenset({"text", "fields", "events"})
    resources: ClassVar[Resources] = NO_RESOURCES

    def __init__(self, scorer: TextScorer, meta: Mapping[str, Any]) -> None:
        self._scorer, self._meta = scorer, meta

    @classmethod
    def fit(cls, cases: Sequence[TrainingCase]) -> Self | None:
        """The classifier that was trained for the source; None if none was."""
        meta = current(cls.resources)
        return None if meta is None else cls.load(meta)

    def out_of_fold(self, cases: Sequence[TrainingCase], folds: Ints) -> Floats:
        """See `Detector.out_of_fold`: the answers that the training kept, and new ones about cases that came since."""
        assert self.resources.folder is not None
        with np.load(self._path / ANSWERS, allow_pickle=False) as stored:
            kept = dict(zip(stored["texts"].tolist(), stored["log_odds"].tolist(), strict=True))
        hashes = [text_hash(case.input.text) for case in cases]
        log_odds = np.array([kept.get(name, np.nan) for name in hashes], dtype=np.float64)
        new = np.flatnonzero(np.isnan(log_odds))
        log_odds[new] = self._scorer.log_odds([cases[i].input.text for i in new.tolist()])[0]
        return log_odds

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """See `Scorer.score`."""
        log_odds, cut = self._scorer.log_odds([record.text for record in records])
        return [
            Signal(
                log_odds=float(value),
                facts=(f"the tuned classifier leans to {'anomalous' if value > 0 else 'normal'} ({value:+.1f})",),
                truncated=truncated,
            )
            for value, truncated in zip(log_odds, cut, strict=True)
        ]

    @property
    def _path(self) -> Path:
        return _folder(self.resources, str(self._meta["folder"]))

    def save(self) -> Mapping[str, Any]:
        """See `Detector.save`; the weights stay in their file."""
        stored = ("folder", "sha256", "settings_sha256", "max_tokens")
        return {name: self._meta[name] for name in stored if name in self._meta}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """See `Detector.load`.

        Raises
        ------
        DetectorError
            The file of weights is missing, or is another one.
        """
        from llm.weights.checksum import cached_sha256

        folder = _folder(cls.resources, str(state["folder"]))
        path = folder / WEIGHTS
        if not path.is_file():
            raise DetectorError(
                f"the tuned classifier's weights are not at {path}",
                "`precedent tune classifier --source NAME` trains it",
            )
        if cached_sha256(path, folder) != str(state["sha256"]):
            raise DetectorError(f"{path} does not have the weights that were tuned: their SHA-256 differs")
        # classifiers of earlier versions have no such sum
        if "settings_sha256" in state and settings_sha256(folder) != str(state["settings_sha256"]):
            raise DetectorError(f"the settings or the tokenizer in {folder} are not those that were tuned with")
        return cls(TextScorer.load(folder, cls.resources.device, int(state["max_tokens"])), dict(state))


def _folder(resources: Resources, name: str) -> Path:
    if resources.folder is None:
        raise DetectorError("the tuned classifier has no folder here")
    return resources.folder / FOLDER / name
