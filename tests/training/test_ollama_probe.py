"""A probe on made activations: what it learns, where its threshold is, and where it changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from agent.training.ollama_probe import Probe, balanced_accuracy
from llm.llamacpp.activations import Activation

INNER, WIDTH = 200, 40
GENERATOR = np.random.default_rng(3)
LABEL, CONSTANT = GENERATOR.normal(size=(2, INNER))
# the model's own log-odds: a direction of the residual, which knows nothing of the label and leans to anomalous
DIRECTION = 0.15 * GENERATOR.normal(size=WIDTH)


def cases(anomalous: np.ndarray, seed: int, signal: float = 0.6) -> list[Activation]:
    random = np.random.default_rng(seed)
    made = []
    for label in anomalous:
        inner = CONSTANT + signal * LABEL * (1 if label else -1) + random.normal(size=INNER)
        residual = random.normal(size=WIDTH) + 3 * DIRECTION
        size = np.sqrt(np.mean(residual**2))
        made.append(
            Activation(inner.astype(np.float32), residual.astype(np.float32), float(residual @ DIRECTION / size))
        )
    return made


def with_adapter(probe: Probe, places: np.ndarray, activations: list[Activation]) -> np.ndarray:
    """The log-odds that the model has with the adapter."""
    adapter = probe.adapter(places)
    out = []
    for each in activations:
        residual = each.residual + adapter.b[:, 0] * float(adapter.a[0] @ each.inner)
        out.append(residual @ DIRECTION / np.sqrt(np.mean(residual**2)))
    return np.array(out)


def fitted(share: float, signal: float = 0.6, count: int = 120) -> tuple[Probe, np.ndarray, np.ndarray]:
    anomalous = np.arange(count) < share * count
    elsewhere = CONSTANT * 0.3 + np.random.default_rng(5).normal(size=(20, INNER))
    probe = Probe(cases(anomalous, 1, signal), anomalous, np.arange(count) % 5, elsewhere)
    return probe, anomalous, elsewhere


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_the_adapter_makes_the_model_say_what_the_activations_tell(share: float) -> None:
    probe, anomalous, _ = fitted(share)
    fresh = np.arange(200) < 100
    activations = cases(fresh, 2)
    assert balanced_accuracy(np.array([each.log_odds for each in activations]), fresh) < 0.6
    assert balanced_accuracy(with_adapter(probe, np.arange(len(anomalous)), activations), fresh) > 0.95


def test_held_out_cases_are_predicted_from_others() -> None:
    probe, anomalous, _ = fitted(0.5)
    folds = np.arange(len(anomalous)) % 4
    assert balanced_accuracy(probe.held_out(folds), anomalous) > 0.95
    chance, anomalous, _ = fitted(0.5, signal=0.0)
    assert 0.3 < balanced_accuracy(chance.held_out(folds), anomalous) < 0.7


def test_within_replies_the_adapter_adds_nothing() -> None:
    probe, anomalous, elsewhere = fitted(0.5)
    adapter = probe.adapter(np.arange(len(anomalous)))
    at_cases = np.abs(np.stack([each.inner for each in cases(anomalous, 1)]) @ adapter.a[0])
    assert np.abs(elsewhere @ adapter.a[0]).max() < 1e-3 * np.median(at_cases)
