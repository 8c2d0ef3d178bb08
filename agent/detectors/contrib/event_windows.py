"""Sessions as codes of their events, windows of them, and the seeded training of small networks on these.

`SessionDetector` in `session_detector` makes detectors of such networks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agent.core.logs import log_event
from agent.detectors.contrib.resources import training_progress
from retrieval.arrays import Floats

# codes that are no kind of event; the kinds follow
PAD, END, OTHER, FIRST = 0, 1, 2, 3
WINDOW = 10
# kinds of event with a code of their own; the rest share `OTHER`
_KNOWN = 1_000
# events whose windows are in memory together
_BLOCK = 200_000
# windows of a batch that is examined
_FORWARD = 4_096
# events that count as expected, as in the papers of DeepLog and LogAnomaly
CANDIDATES = 9
# -ln P of an event that no normal session has; of one in a thousand, which is unexpected whatever its rank: ranks among
# events that are all next to impossible are chance
UNKNOWN_SURPRISE, _IMPROBABLE = 20.0, 6.9
_SEED = 20_26
Ids = NDArray[np.int64]
Kinds = tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """The kinds of event that normal sessions have, each with a code from `FIRST`."""

    kinds: Kinds

    @classmethod
    def fit(cls, sessions: Sequence[Kinds]) -> Vocabulary:
        """The kinds that most sessions have."""
        seen: Counter[str] = Counter(kind for session in sessions for kind in set(session))
        return cls(tuple(sorted(seen, key=lambda kind: (-seen[kind], kind))[:_KNOWN]))

    def __len__(self) -> int:
        """The number of codes."""
        return FIRST + len(self.kinds)

    @cached_property
    def codes(self) -> dict[str, int]:
        """The code of each kind."""
        return {kind: code for code, kind in enumerate(self.kinds, FIRST)}

    def encode(self, session: Kinds) -> Ids:
        """The codes of a session's events, shape (events,)."""
        return np.fromiter((self.codes.get(kind, OTHER) for kind in session), np.int64, len(session))


@dataclass(frozen=True)
class Findings:
    """What a network finds in n sessions.

    Parameters
    ----------
    numbers : shape (n, k)
        Scores, the higher the more anomalous.
    step : shape (n,)
        The most surprising step; the end is the step after the last event.
    rank : shape (n,)
        The rank of that step's event, from 1 for the likeliest.
    misses : shape (n,)
        Number of unexpected steps.
    """

    numbers: Floats
    step: Ids
    rank: Ids
    misses: Ids

    @classmethod
    def joined(cls, parts: Sequence[Findings]) -> Findings:
        """The findings of all parts, in their order."""
        columns = [[getattr(part, name) for part in parts] for name in ("numbers", "step", "rank", "misses")]
        return cls(*(np.concatenate(arrays) for arrays in columns))


@dataclass(frozen=True)
class Windows:
    """The distinct windows of sessions: the `WINDOW` events before a step and the step's own, the end being an event.

    Parameters
    ----------
    rows : shape (windows, WINDOW + 1)
        Codes; the last column is the step's own.
    of_step : shape (steps,)
        The window of each step.
    first : shape (sessions,)
        The first step of each session.
    """

    rows: Ids
    of_step: Ids
    first: Ids

    @classmethod
    def of(cls, sessions: Sequence[Ids]) -> Windows:
        """The windows of n encoded sessions."""
        flat = np.concatenate([part for session in sessions for part in (_START, session, _STOP)]).astype(np.int16)
        sizes = np.array([len(session) + 1 for session in sessions])
        first = np.cumsum(sizes) - sizes
        starts = np.arange(sizes.sum()) + WINDOW * np.repeat(np.arange(len(sessions)), sizes)
        rows = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(flat, WINDOW + 1)[starts])
        # rows compared as bytes sort much faster than by axis
        _, distinct, of_step = np.unique(
            rows.view(np.dtype((np.void, rows.itemsize * (WINDOW + 1)))).ravel(), return_index=True, return_inverse=True
        )
        return cls(rows[distinct].astype(np.int64), of_step.ravel(), first)

    def weights(self, times: Floats) -> Floats:
        """The square root of how often each window occurs, shape (windows,), from ``times`` of each session.

        A plain count would leave rare contexts, which are where anomalies are, nearly without weight.
        """
        sizes = np.diff(np.append(self.first, len(self.of_step)))
        return np.sqrt(np.bincount(self.of_step, np.repeat(times, sizes), minlength=len(self.rows)))


_START, _STOP = np.full(WINDOW, PAD), np.array([END])


def blocks(sessions: Sequence[Ids]) -> Iterator[Sequence[Ids]]:
    """Consecutive sessions with about `_BLOCK` events together."""
    ends = np.cumsum([len(session) + 1 for session in sessions])
    number = ends // _BLOCK
    for start, stop in zip(*_runs(number), strict=True):
        yield sessions[start:stop]


def _runs(numbers: Ids) -> tuple[list[int], list[int]]:
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1)).tolist()
    return starts, [*starts[1:], len(numbers)]


@dataclass(frozen=True)
class Training:
    """How a network is trained: Adam with one cycle of learning rates.

    Parameters
    ----------
    epochs, batch, rate
        Passes over the rows, rows of a batch, greatest learning rate.
    least, most
        Bounds of the number of batches, whatever the epochs.
    rows : int
        A seeded sample of more rows than so many is taken.
    """

    epochs: int
    batch: int
    rate: float
    least: int = 300
    most: int = 4_800
    rows: int = 60_000

    def run(self, name: str, network: nn.Module, lengths: Ids, loss: Callable[[Tensor], Tensor]) -> None:
        """Minimise ``loss`` of batches of the numbers of rows.

        Parameters
        ----------
        name : str
            What progress calls it.
        lengths : shape (n,)
            Of the rows; those of a batch have similar ones.
        loss : callable
            The mean loss of the rows of these numbers, shape (batch,).
        """
        numbers = torch.randperm(len(lengths))[: self.rows]
        total = min(max(self.epochs * -(-len(numbers) // self.batch), self.least), self.most)
        optimizer = torch.optim.Adam(network.parameters(), self.rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=total)
        progress, started = training_progress.get(), time.monotonic()
        step = 0
        network.train()
        while step < total:
            for batch in self._batches(numbers, torch.from_numpy(lengths))[: total - step]:
                value = loss(batch)
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                step += 1
                if progress:
                    progress(name, step, total)
        network.eval()
        seconds = round(time.monotonic() - started, 1)
        log_event("trained", level="debug", what=name, rows=len(numbers), batches=total, seconds=seconds)

    def _batches(self, numbers: Tensor, lengths: Tensor) -> list[Tensor]:
        shuffled = numbers[torch.randperm(len(numbers))]
        batches = torch.split(shuffled[torch.argsort(lengths[shuffled], stable=True)], self.batch)
        return [batches[i] for i in torch.randperm(len(batches)).tolist()]


@contextmanager
def reproducible() -> Iterator[None]:
    """Seed PyTorch, and use one thread: with more, sums round otherwise, and networks so small are no faster."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


class NextEventNetwork(nn.Module):
    """Predicts the event after a window; `forward` of a subclass takes contexts, shape (n, WINDOW), to logits."""

    training_settings = Training(epochs=10, batch=128, rate=5e-3)

    def fit(self, name: str, sessions: Sequence[Ids], times: Floats) -> None:
        """Train on the distinct windows of encoded normal sessions that occurred so many ``times``."""
        windows = Windows.of(sessions)
        rows, weights = torch.from_numpy(windows.rows), torch.from_numpy(windows.weights(times)).float()
        weights /= weights.mean()

        def loss(batch: Tensor) -> Tensor:
            logits = self(rows[batch, :-1])
            each = nn.functional.cross_entropy(logits, rows[batch, -1], reduction="none")
            return (each * weights[batch]).mean()

        self.training_settings.run(name, self, np.ones(len(rows), np.int64), loss)

    def examine(self, sessions: Sequence[Ids]) -> Findings:
        """One number a session: the greatest surprise of a step, from 0 to 1, and 1 more for an unexpected step."""
        return Findings.joined([self._examine(block) for block in blocks(sessions)])

    def _examine(self, sessions: Sequence[Ids]) -> Findings:
        windows = Windows.of(sessions)
        surprise, rank = self._steps(windows.rows)
        missed = (rank > CANDIDATES) | (surprise > _IMPROBABLE)
        value = (surprise / (surprise + 5) + missed)[windows.of_step]
        greatest = np.maximum.reduceat(value, windows.first)
        session = np.repeat(np.arange(len(sessions)), np.diff(np.append(windows.first, len(value))))
        at = np.flatnonzero(value == greatest[session])
        at = at[np.unique(session[at], return_index=True)[1]]
        misses = np.add.reduceat(missed[windows.of_step].astype(np.int64), windows.first)
        return Findings(greatest[:, None], at - windows.first, rank[windows.of_step[at]], misses)

    def _steps(self, rows: Ids) -> tuple[Floats, Ids]:
        """Of each window -ln P of its step, and the rank of that among all events."""
        surprise, rank = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
        with torch.inference_mode():
            for start in range(0, len(rows), _FORWARD):
                batch = torch.from_numpy(rows[start : start + _FORWARD])
                log_p = torch.log_softmax(self(batch[:, :-1]), dim=1)
                observed = log_p.gather(1, batch[:, -1:])
                surprise[start : start + _FORWARD] = -observed[:, 0].numpy()
                rank[start : start + _FORWARD] = 1 + (log_p[:, END:] > observed).sum(1).numpy()
        unknown = rows[:, -1] == OTHER
        surprise[unknown] = UNKNOWN_SURPRISE
        return surprise, rank
