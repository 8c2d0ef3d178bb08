"""LogBERT: a session is anomalous if masked events of it are not what an encoder of normal sessions expects there.

Guo, Yuan & Wu, "LogBERT: Log Anomaly Detection via BERT", IJCNN 2021: a transformer encoder of two layers is trained to
predict masked events from all others, and to keep the vectors of normal sessions near their centre (weight 0.1). Where
the paper masks at random and counts misses, every event is masked here in the same half or its complement, in seeded
draws, so that a session has one score: by its greatest and mean surprise and its distance to the centre. The published
limits are tuned to each data set; here they are at one per cent of the normal sessions. A session's end is an event.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from agent.detectors.contrib.event_windows import (
    CANDIDATES,
    END,
    OTHER,
    PAD,
    UNKNOWN_SURPRISE,
    Findings,
    Ids,
    Training,
    Vocabulary,
)
from agent.detectors.contrib.session_detector import SessionDetector, SessionNetwork
from retrieval.arrays import Bools, Floats

_WIDTH, _HEADS, _LAYERS, _FEED_FORWARD = 64, 4, 2, 256
_MASKED, _HYPERSPHERE = 0.5, 0.1
# a longer session is encoded in parts of so many events; pairs of complementary masks
_PART, _DRAWS = 128, 3
# events of a batch that is examined
_BATCH_EVENTS = 16_384
_SEED = 20_26


class LogBertNetwork(nn.Module):
    """The encoder.

    Parameters
    ----------
    codes : int
        Number of codes of events; two more stand for the session and for a masked event.
    """

    training_settings = Training(epochs=40, batch=64, rate=1e-3, most=1_600, rows=20_000)
    centre: Tensor

    def __init__(self, codes: int) -> None:
        super().__init__()
        self._session, self._mask = codes, codes + 1
        self.embedding = nn.Embedding(codes + 2, _WIDTH)
        layer = nn.TransformerEncoderLayer(_WIDTH, _HEADS, _FEED_FORWARD, 0.0, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.output = nn.Linear(_WIDTH, codes)
        self.register_buffer("centre", torch.zeros(_WIDTH))
        self.register_buffer("positions", _positions(_PART + 2), persistent=False)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each event, shape (n, length, codes), and vectors of the sessions, shape (n, width)."""
        positions = self.get_buffer("positions")[: codes.shape[1]]
        states = self.encoder(self.embedding(codes) + positions, src_key_padding_mask=codes == PAD)
        return self.output(states), states[:, 0]

    def fit(self, name: str, sessions: Sequence[Ids], times: Floats) -> None:
        """Train on encoded normal sessions that occurred so many ``times``."""
        parts, of_session = self._parts(sessions)
        weights = torch.from_numpy(np.sqrt(times)[of_session] / np.sqrt(times).mean()).float()
        batches = 0

        def loss(batch: Tensor) -> Tensor:
            nonlocal batches
            if batches % 100 == 0:
                self._set_centre(parts)
            batches += 1
            codes = _padded([parts[i] for i in batch.tolist()])
            maskable = (codes != PAD) & (codes != self._session)
            masked = maskable & (torch.rand(codes.shape) < _MASKED)
            logits, vectors = self(codes.masked_fill(masked, self._mask))
            weight = weights[batch]
            each = weight[:, None].expand(codes.shape)[masked]
            entropy = nn.functional.cross_entropy(logits[masked], codes[masked], reduction="none")
            distance = ((vectors - self.centre) ** 2).sum(1)
            predicted = (entropy * each).sum() / each.sum().clamp(min=1e-9)
            return torch.as_tensor(predicted + _HYPERSPHERE * (distance * weight).mean())

        self.training_settings.run(name, self, np.array([len(part) for part in parts]), loss)
        self._set_centre(parts)

    def _set_centre(self, parts: Sequence[Ids]) -> None:
        """The mean vector of a sample of normal parts, which the paper takes anew in every epoch."""
        sample = np.random.default_rng(_SEED).permutation(len(parts))[:2_000]
        chosen = [parts[i] for i in sample.tolist()]
        with torch.no_grad():
            vectors = [self(_padded([chosen[i] for i in ids]))[1] for ids in _batches(chosen)]
        self.centre.copy_(torch.cat(vectors).mean(0))

    def examine(self, sessions: Sequence[Ids]) -> Findings:
        """Greatest and mean surprise of a masked event in nats, and distance to the centre: the worst of its parts."""
        parts, of_session = self._parts(sessions)
        surprise, rank = [np.zeros(0)] * len(parts), [np.zeros(0, np.int64)] * len(parts)
        distance = np.zeros(len(parts))
        for ids in _batches(parts):
            batch = [parts[i] for i in ids]
            surprises, ranks, distance[ids] = self._masked(_padded(batch), [len(part) - 1 for part in batch])
            for i, part, row, row_ranks in zip(ids, batch, surprises, ranks, strict=True):
                unknown, size = part[1:] == OTHER, len(part) - 1
                surprise[i] = np.where(unknown, UNKNOWN_SURPRISE, row[:size])
                rank[i] = np.where(unknown, len(self.output.weight), row_ranks[:size])
        numbers, places = np.zeros((len(sessions), 3)), np.zeros((3, len(sessions)), np.int64)
        first = np.searchsorted(of_session, np.arange(len(sessions) + 1))
        for i, (start, stop) in enumerate(itertools.pairwise(first.tolist())):
            values, ranks = np.concatenate(surprise[start:stop]), np.concatenate(rank[start:stop])
            missed = (ranks > CANDIDATES) | (values == UNKNOWN_SURPRISE)
            numbers[i] = values.max(), values.mean(), distance[start:stop].max()
            step = int(np.argmax(values + 1e3 * missed))
            places[:, i] = step, ranks[step], missed.sum()
        return Findings(numbers, *places)

    def _masked(self, codes: Tensor, sizes: Sequence[int]) -> tuple[Floats, Ids, Floats]:
        """Of each event its mean surprise and best rank over the draws, and of each part the distance to the centre."""
        surprise = torch.zeros(codes.shape[0], codes.shape[1] - 1, dtype=torch.float64)
        best = torch.full(surprise.shape, len(self.output.weight))
        with torch.inference_mode():
            for draw in range(_DRAWS):
                half = torch.zeros(codes.shape, dtype=torch.bool)
                for row, size in zip(half, sizes, strict=True):
                    row[1 : size + 1] = torch.from_numpy(_half(size, draw))
                for masked in (half, ~half & (codes != PAD) & (codes != self._session)):
                    logits, _ = self(codes.masked_fill(masked, self._mask))
                    log_p = torch.log_softmax(logits[:, 1:], dim=2)
                    observed = log_p.gather(2, codes[:, 1:, None])
                    rank = 1 + (log_p[:, :, END:] > observed).sum(2)
                    here = masked[:, 1:]
                    surprise += torch.where(here, -observed[:, :, 0], 0.0) / _DRAWS
                    best = torch.where(here, torch.minimum(best, rank), best)
            distance = ((self(codes)[1] - self.centre) ** 2).sum(1)
        return surprise.numpy(), best.numpy(), distance.double().numpy()

    def _parts(self, sessions: Sequence[Ids]) -> tuple[list[Ids], Ids]:
        """Parts of `_PART` steps that each begin with the code of a session, and the session of each."""
        parts, of_session = [], []
        for i, session in enumerate(sessions):
            steps = np.append(session, END)
            for start in range(0, len(steps), _PART):
                parts.append(np.concatenate([[self._session], steps[start : start + _PART]]))
                of_session.append(i)
        return parts, np.array(of_session)


class LogBert(SessionDetector):
    """The detector; see the module."""

    name: ClassVar[str] = "logbert"

    @classmethod
    def build(cls, vocabulary: Vocabulary) -> SessionNetwork:
        """The untrained network."""
        return LogBertNetwork(len(vocabulary))

    @staticmethod
    def expectation(step: int, rank: int) -> str:
        """The rank where the event is masked."""
        return f"not among the {CANDIDATES} likeliest there, given the other events"


@lru_cache(maxsize=4_096)
def _half(size: int, draw: int) -> Bools:
    """Half of so many events; a single one is masked in one of both halves."""
    return np.random.default_rng([_SEED, size, draw]).permutation(size) < size / 2


def _positions(length: int) -> Tensor:
    angles = torch.arange(length)[:, None] * torch.exp(torch.arange(0, _WIDTH, 2) * (-math.log(10_000) / _WIDTH))
    return torch.stack([angles.sin(), angles.cos()], dim=2).reshape(length, _WIDTH)


def _padded(parts: Sequence[Ids]) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.from_numpy(part) for part in parts], batch_first=True, padding_value=PAD)


def _batches(parts: Sequence[Ids]) -> Iterator[list[int]]:
    """Numbers of parts of similar length that have about `_BATCH_EVENTS` events together."""
    order = sorted(range(len(parts)), key=lambda i: len(parts[i]))
    start = 0
    while start < len(order):
        # the parts are ascending: the one that is as far as a batch of the first's length may reach is the longest
        size = max(
            1,
            _BATCH_EVENTS // len(parts[order[min(start + _BATCH_EVENTS // len(parts[order[start]]), len(order)) - 1]]),
        )
        yield order[start : start + size]
        start += size
