"""Reconstruction of windows from what normal windows have in common, by a small network over patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from agent.detectors.contrib.event_windows import reproducible
from agent.detectors.contrib.network_weights import load_weights, weights_as_arrays
from agent.detectors.contrib.resources import training_progress
from agent.detectors.contrib.series_arrays import Stretch, Windows, subsequences
from agent.detectors.contrib.series_kernels import Finding, Kernel
from retrieval.arrays import Floats

# a window is at most so many patches; what is known of it when it is made again; windows and steps of the training
_PATCHES, _HIDDEN, _CODE, _WINDOWS, _STEPS, _BATCH = 8, 32, 6, 2_000, 400, 64
_SEED, _RATE, _LARGEST = 20_26, 3e-3, 10.0


class PatchNetwork(nn.Module):
    """Patches are encoded by one layer, the window by few numbers, and decoded again."""

    def __init__(self, inputs: int, patches: int) -> None:
        super().__init__()
        self.patches, self.patch = patches, inputs // patches
        self.embed = nn.Linear(self.patch, _HIDDEN)
        self.encode = nn.Linear(_HIDDEN * patches, _CODE)
        self.decode = nn.Sequential(nn.Linear(_CODE, _HIDDEN * 2), nn.GELU(), nn.Linear(_HIDDEN * 2, inputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Windows of shape (n, inputs), made again."""
        patches = torch.nn.functional.gelu(self.embed(x.reshape(len(x), self.patches, self.patch)))
        out: torch.Tensor = self.decode(self.encode(patches.flatten(1)))
        return out


@dataclass(frozen=True)
class PatchReconstruction(Kernel):
    """Root mean square error of a window that a network has made again."""

    kind: ClassVar[str] = "reconstruction"
    network: PatchNetwork

    @classmethod
    def fit(cls, stretches: Sequence[Stretch], points: int, *, has_calendar: bool) -> Self | None:
        """See `Kernel.fit`."""
        del has_calendar
        x = _vectors(subsequences(stretches, points, _WINDOWS))
        count = next(size for size in range(_PATCHES, 0, -1) if x.shape[1] % size == 0)
        progress = training_progress.get()
        with reproducible():
            network = PatchNetwork(x.shape[1], count)
            optimiser, data = torch.optim.Adam(network.parameters(), lr=_RATE), torch.from_numpy(x)
            order = np.random.default_rng(_SEED)
            for step in range(_STEPS):
                batch = data[order.integers(0, len(data), _BATCH)]
                loss = (network(batch) - batch).abs().mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                if progress and step % 50 == 0:
                    progress("training series_patch", step, _STEPS)
        return cls(network.eval())

    def _errors(self, windows: Windows) -> Floats:
        x = _vectors(windows)
        with torch.inference_mode():
            made = np.concatenate([self.network(torch.from_numpy(x[i : i + 1_024])) for i in range(0, len(x), 1_024)])
        return np.asarray(np.abs(made - x), np.float64)

    def scores(self, windows: Windows, zone: float = 0.0) -> Floats:
        """See `Kernel.scores`; what few numbers hold is common to many windows, so the zone does not matter."""
        return np.asarray(np.sqrt((self._errors(windows) ** 2).mean(axis=1)))

    def finding(self, window: Windows, zone: float = 0.0) -> Finding:
        """See `Kernel.finding`."""
        errors = self._errors(window)[0].reshape(window.values.shape[1:])
        point, column = np.unravel_index(int(errors.argmax()), errors.shape)
        return Finding(int(point), int(column))

    def state(self) -> dict[str, Any]:
        """See `Kernel.state`."""
        return {"inputs": np.int64(self.network.patch * self.network.patches), "patches": np.int64(
            self.network.patches), **weights_as_arrays(self.network)}  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """See `Kernel.from_state`."""
        network = PatchNetwork(int(state["inputs"]), int(state["patches"]))
        load_weights(network, state)
        return cls(network.eval())


def _vectors(windows: Windows) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.clip(windows.values, -_LARGEST, _LARGEST).reshape(len(windows), -1).astype(np.float32)
