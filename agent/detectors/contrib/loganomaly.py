"""LogAnomaly: as DeepLog, with events by the meaning of their texts, and with counts of events beside their order.

Meng et al., "LogAnomaly: Unsupervised Detection of Sequential and Quantitative Anomalies in Unstructured Logs", IJCAI
2019. The vector of a template is the embedding model's of its text, where the paper has one of word vectors that tell
antonyms apart. A text that no normal session has is taken for the known one that is nearest in meaning, if one is near.
Windows, layers and candidates are DeepLog's, so that the two compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agent.core.settings import settings
from agent.detectors.contrib.deeplog import HIDDEN, DeepLog, lstm
from agent.detectors.contrib.event_windows import FIRST, OTHER, WINDOW, Ids, Kinds, NextEventNetwork, Vocabulary
from agent.detectors.contrib.session_detector import SessionNetwork

if TYPE_CHECKING:
    from retrieval.encoding.text_embedder import Embedder

_SEMANTIC = 32
# cosine from which on an unknown template counts as a known one; the name of an event in one word has no meaning
_SAME = 0.8


class LogAnomalyNetwork(NextEventNetwork):
    """The next event after a window of vectors, and of the counts of events so far in it.

    Parameters
    ----------
    vectors : shape (codes, dimensions)
        Of the templates by their codes; zeros for codes that are none.
    """

    vectors: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        codes, dimensions = vectors.shape
        self.register_buffer("vectors", vectors)
        self.semantic = nn.Linear(dimensions, _SEMANTIC)
        # a start or an unknown event has no vector
        self.special = nn.Embedding(FIRST, _SEMANTIC)
        self.sequence, self.quantities = lstm(_SEMANTIC), lstm(codes)
        self.output = nn.Linear(2 * HIDDEN, codes)

    def forward(self, contexts: Tensor) -> Tensor:
        """Logits of the next event, shape (n, codes), after contexts of shape (n, WINDOW)."""
        table = torch.cat([self.special.weight, self.semantic(self.vectors[FIRST:])])
        one_hot = nn.functional.one_hot(contexts, len(table)).float()
        order: Tensor = self.sequence(nn.functional.embedding(contexts, table))[0]
        quantity: Tensor = self.quantities(one_hot.cumsum(1) / WINDOW)[0]
        return torch.as_tensor(self.output(torch.cat([order[:, -1], quantity[:, -1]], dim=1)))


class LogAnomaly(DeepLog):
    """The detector; see the module."""

    name: ClassVar[str] = "loganomaly"
    resources: ClassVar[Any] = None
    """What the source lends: ``embed``, texts to vectors. Without, the embedding model of the settings is loaded."""

    @classmethod
    def build(cls, vocabulary: Vocabulary) -> SessionNetwork:
        """The untrained network; loads the embedding model."""
        vectors = cls._embedded(vocabulary.kinds)
        padded = np.concatenate([np.zeros((FIRST, vectors.shape[1]), np.float32), vectors])
        return LogAnomalyNetwork(torch.from_numpy(padded))

    @classmethod
    def rebuild(cls, vocabulary: Vocabulary, arrays: Mapping[str, NDArray[Any]]) -> SessionNetwork:
        """A network with the stored vectors."""
        return LogAnomalyNetwork(torch.tensor(arrays["vectors"]))

    def encode(self, sessions: Sequence[Kinds]) -> list[Ids]:
        """The codes of sessions; an unknown template has that of the nearest one, if that is near."""
        encoded = super().encode(sessions)
        unknown = {
            kind
            for session, codes in zip(sessions, encoded, strict=True)
            for kind in {session[i] for i in np.flatnonzero(codes == OTHER)}
            if len(kind.split()) > 1
        }
        if not unknown:
            return encoded
        nearest = self._nearest(sorted(unknown))
        for session, codes in zip(sessions, encoded, strict=True):
            for i in np.flatnonzero(codes == OTHER):
                codes[i] = nearest.get(session[i], OTHER)
        return encoded

    def _nearest(self, kinds: Sequence[str]) -> dict[str, int]:
        assert isinstance(self.network, LogAnomalyNetwork)
        similar = self._embedded(kinds) @ self.network.vectors[FIRST:].numpy().T
        # names of one word are near each other
        similar[:, [len(kind.split()) < 2 for kind in self.vocabulary.kinds]] = -1
        best = similar.argmax(1)
        return {kind: FIRST + int(at) for kind, at, row in zip(kinds, best, similar, strict=True) if row[at] >= _SAME}

    @classmethod
    def _embedded(cls, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of texts, shape (n, dimensions)."""
        embed = cls.resources.embed if cls.resources else _embedder().encode_cached
        return np.stack(embed(texts)) if texts else np.zeros((0, 1), np.float32)


@cache
def _embedder() -> Embedder:
    from llm.weights.resolver import resolve
    from retrieval.encoding.text_embedder import Embedder

    chosen = settings()
    return Embedder(resolve(chosen.embedder, cache=chosen.cache, offline=chosen.offline).path, chosen.device)
