"""Kernel density ratio of the two labels at a record."""

from __future__ import annotations

import math
from collections.abc import Sequence

# width of the kernel over cosine similarity
_WIDTH = 0.08


def kernel_log_ratio(anomalous: Sequence[float], normal: Sequence[float]) -> float | None:
    """Log ratio of the kernel densities of both labels, from the cosine similarities of the nearest cases."""
    if not anomalous or not normal:
        return None
    return _log_density(anomalous) - _log_density(normal)


def _log_density(similarities: Sequence[float]) -> float:
    top = max(similarities)
    total = sum(math.exp((similarity - top) / _WIDTH) for similarity in similarities)
    return top / _WIDTH + math.log(total / len(similarities))
