"""DeepLog: a session is anomalous if an event is not among those that are likely after the events before it.

Du, Li, Zheng & Srikumar, "DeepLog: Anomaly Detection and Diagnosis from System Logs through Deep Learning", CCS 2017:
its model of log keys, with the published settings of HDFS: windows of 10 events, an LSTM of two layers of 64, the 9
likeliest events. Beyond the paper, a session's start and end are events as well, so that one that stops too early is
found, and an event of a probability under 0.001 is unexpected whatever its rank. The paper's model of parameter values
is not here, because events have none.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from agent.detectors.contrib.event_windows import CANDIDATES, WINDOW, NextEventNetwork, Vocabulary
from agent.detectors.contrib.session_detector import SessionDetector, SessionNetwork

_LAYERS, HIDDEN = 2, 64
# one-hot codes and the first layer's weights of them, in fewer numbers
_EMBEDDING = 16


def lstm(width: int) -> nn.LSTM:
    """The recurrent part of the published size, for inputs of ``width`` numbers."""
    return nn.LSTM(width, HIDDEN, _LAYERS, batch_first=True)


class DeepLogNetwork(NextEventNetwork):
    """The next event after a window of events.

    Parameters
    ----------
    codes : int
        Number of codes of events.
    """

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, _EMBEDDING)
        self.lstm, self.output = lstm(_EMBEDDING), nn.Linear(HIDDEN, codes)

    def forward(self, contexts: Tensor) -> Tensor:
        """Logits of the next event, shape (n, codes), after contexts of shape (n, WINDOW)."""
        states: Tensor = self.lstm(self.embedding(contexts))[0]
        return torch.as_tensor(self.output(states[:, -1]))


class DeepLog(SessionDetector):
    """The detector; see the module."""

    name: ClassVar[str] = "deeplog"
    rule: ClassVar[float | None] = 1.0

    @classmethod
    def build(cls, vocabulary: Vocabulary) -> SessionNetwork:
        """The untrained network."""
        return DeepLogNetwork(len(vocabulary))

    @staticmethod
    def expectation(step: int, rank: int) -> str:
        """The rank or the probability after the events before it."""
        before = f"the {min(step, WINDOW)} before it" if step else "the start"
        if rank > CANDIDATES:
            return f"not among the {CANDIDATES} likeliest after {before}"
        return f"less likely than 1 in 1,000 after {before}"
