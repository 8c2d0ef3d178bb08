"""What counts as evidence that the language model helps: gains on kinds of cases that no weight was fitted to."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.core.numerics import Floats
from agent.training.kinds import kinds_of_templates
from agent.training.language_trial import Evidence, compare

KINDS = np.repeat(np.arange(20), 4)
ANOMALOUS = KINDS % 2 == 1
SIGN = np.where(ANOMALOUS, 1.0, -1.0)


def evidence(answers: Floats, others: Floats, kinds: NDArray[np.int64] = KINDS) -> Evidence:
    return compare(others, answers, ANOMALOUS, np.ones(len(ANOMALOUS)), kinds)


def noise(seed: int) -> Floats:
    return np.random.default_rng(seed).normal(size=len(ANOMALOUS))


def test_a_model_that_knows_more_than_the_others_helps() -> None:
    found = evidence(2 * SIGN + noise(1), 0.3 * SIGN + noise(2))
    assert found.helps
    assert found.auc_with > found.auc_without + 0.1
    assert str(found).startswith("the model helps here: AUC 0.")


@pytest.mark.parametrize("seed", range(8))
def test_a_model_that_guesses_does_not_help(seed: int) -> None:
    found = evidence(2 * noise(seed), SIGN + noise(seed + 100))
    assert not found.helps
    assert str(found).endswith(": not used")


def test_a_model_that_repeats_the_others_does_not_help() -> None:
    others = 2 * SIGN + noise(3)
    assert not evidence(others + 0.1 * noise(4), others).helps


def test_a_gain_on_siblings_of_one_kind_is_no_evidence() -> None:
    """The same gain on cases of many kinds is."""
    chosen = np.arange(len(KINDS)) < 40
    answers, others = 2 * SIGN * chosen, 0.5 * SIGN + noise(5)
    assert evidence(answers, others).helps
    one_kind = np.where(chosen, 0, KINDS)
    assert not evidence(answers, others, one_kind).helps


def test_cases_of_one_kind_are_compared_each_by_itself() -> None:
    assert evidence(2 * SIGN + noise(1), 0.3 * SIGN + noise(2), np.zeros(len(KINDS), dtype=np.int64)).helps


def test_kinds_are_clusters_of_similar_texts() -> None:
    vectors = np.eye(3)[[0, 0, 1, 2, 2]] + 0.05
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kinds = kinds_of_templates(vectors.astype(np.float32))
    assert kinds[0] == kinds[1] != kinds[2]
    assert len(set(kinds.tolist())) == 3
    assert kinds[3] == kinds[4]
