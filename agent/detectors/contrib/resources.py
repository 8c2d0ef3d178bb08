"""What a contrib detector may use besides cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.progress import Progress

Vectors = NDArray[np.float32]


def _no_embedder(texts: Sequence[str]) -> list[Vectors]:
    raise RuntimeError("no embedding model is at hand here")


@dataclass(frozen=True)
class Resources:
    """Of one source; the class attribute ``resources`` of a contrib detector while that source is fitted or judged.

    Parameters
    ----------
    brief : str
        The source's brief.
    by_fields : bool
        Whether its records are compared by fields, so that the vectors that were found are not of texts.
    embed : callable
        Texts to unit vectors, each of shape (dimensions,); loads the embedding model at first use.
    folder : Path or None
        Where files of the source's detectors are kept: weights that are too large for the store.
    device : str
        ``cpu``, ``cuda``, ``mps``, or ``auto`` for the fastest that PyTorch finds.
    offline : bool
        Whether nothing may be fetched.
    option : str
        What was given after the detector's name: ``--detector NAME=OPTION``.
    """

    brief: str = ""
    by_fields: bool = False
    embed: Callable[[Sequence[str]], list[Vectors]] = _no_embedder
    folder: Path | None = None
    device: str = "auto"
    offline: bool = False
    option: str = ""

    def bind(self, detector: Any) -> Any:
        """A subclass of a detector's class that has these resources."""
        return type(detector.__name__, (detector,), {"resources": self, "__module__": detector.__module__})


def chosen_device(device: str) -> str:
    """``auto`` as the fastest device that PyTorch finds."""
    if device != "auto":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


NO_RESOURCES = Resources()
# called with what is trained, the number of steps done, and their total
training_progress: ContextVar[Progress | None] = ContextVar("training_progress", default=None)


@contextmanager
def showing_training(progress: Progress | None) -> Iterator[None]:
    """Let the detectors that are fitted here report the steps of their trainings."""
    token = training_progress.set(progress)
    try:
        yield
    finally:
        training_progress.reset(token)
