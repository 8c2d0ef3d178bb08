"""What is counted of verdicts in bulk, as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.bulk.group_judge import Result
from agent.core.records import VERDICT_LABELS, Verdict
from agent.detectors.novelty import is_far

# label index of a group that could not be judged
UNJUDGED = -1
TRAITS = np.dtype([("label", np.int8), ("is_far", np.bool_), ("is_degraded", np.bool_), ("probability", np.float64)])


def traits_of(results: Sequence[Result]) -> NDArray[np.void]:
    """What is counted of n results, shape (n,): label's index, whether far from every case, degraded, probability."""
    traits = [
        (
            VERDICT_LABELS.index(result.label),
            is_far(result.signals["novelty"]),
            bool(result.degraded),
            result.probability,
        )
        if isinstance(result, Verdict)
        else (UNJUDGED, False, False, 0.0)
        for result in results
    ]
    return np.array(traits, TRAITS)
