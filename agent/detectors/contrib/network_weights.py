"""The weights of a PyTorch network as arrays, so that it is stored without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

_PREFIX = "weights."


def weights_as_arrays(network: torch.nn.Module) -> dict[str, Any]:
    """The weights by name, each name with a prefix that sets them apart from other state."""
    return {f"{_PREFIX}{name}": tensor.cpu().numpy() for name, tensor in network.state_dict().items()}


def load_weights(network: torch.nn.Module, state: Mapping[str, Any]) -> None:
    """Give a network the weights that `weights_as_arrays` has put into ``state``."""
    import torch

    network.load_state_dict(
        {
            name.removeprefix(_PREFIX): torch.tensor(np.asarray(array))
            for name, array in state.items()
            if name.startswith(_PREFIX)
        }
    )
