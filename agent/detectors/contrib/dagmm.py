"""Deep autoencoding Gaussian mixture model (Zong et al., ICLR 2018), small enough for two cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.detectors.contrib.network_weights import load_weights, weights_as_arrays
from agent.detectors.contrib.outlier_model import SEED, Spec
from retrieval.arrays import Floats

if TYPE_CHECKING:
    import torch

_CODE, _HIDDEN, _COMPONENTS = 2, 16, 4
_EPOCHS, _BATCH, _RATE = 60, 64, 2e-3
# weights of the energy and of the covariances' diagonals in the loss, as in the paper
_ENERGY, _DIAGONAL = 0.1, 0.005
_RIDGE = 1e-3


class _Network:
    """An autoencoder, a network that estimates the component of a code, and the mixture of all rows."""

    def __init__(self, columns: int) -> None:
        from torch import nn

        self.columns = columns
        self.encoder = nn.Sequential(nn.Linear(columns, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, _CODE))
        self.decoder = nn.Sequential(nn.Linear(_CODE, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, columns))
        self.estimation = nn.Sequential(
            nn.Linear(_CODE + 2, 10), nn.Tanh(), nn.Dropout(0.5), nn.Linear(10, _COMPONENTS), nn.Softmax(dim=1)
        )
        self.modules = nn.ModuleList([self.encoder, self.decoder, self.estimation])
        self.mixture: tuple[torch.Tensor, ...] = ()

    def latent(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The code of n rows with the relative error and the cosine of their reconstruction, and that itself."""
        import torch

        code = self.encoder(x)
        again = self.decoder(code)
        error = (x - again).norm(dim=1) / x.norm(dim=1).clamp_min(1e-6)
        cosine = torch.nn.functional.cosine_similarity(x, again, dim=1)
        return torch.cat([code, error[:, None], cosine[:, None]], dim=1), again

    def estimate(self, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Shares, means and covariances of the components of n latent rows."""
        import torch

        gamma = self.estimation(z)
        mass = gamma.sum(dim=0).clamp_min(1e-6)
        mean = gamma.T @ z / mass[:, None]
        centred = z[:, None] - mean[None]
        covariance = torch.einsum("nk,nki,nkj->kij", gamma, centred, centred) / mass[:, None, None]
        return mass / len(z), mean, covariance + _RIDGE * torch.eye(z.shape[1])


def _energy(z: torch.Tensor, mixture: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Negative log-likelihood of n latent rows, shape (n,)."""
    import torch

    share, mean, covariance = mixture
    normal = torch.distributions.MultivariateNormal(mean, covariance, validate_args=False)
    likelihood = normal.log_prob(z[:, None])  # type: ignore[no-untyped-call]
    return -torch.logsumexp(likelihood + share.log(), dim=1)


def _fit(x: Floats) -> _Network:
    import torch

    rows = torch.tensor(x, dtype=torch.float32)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        network = _Network(x.shape[1])
        optimiser = torch.optim.Adam(network.modules.parameters(), lr=_RATE)
        for _ in range(_EPOCHS):
            for batch in torch.split(torch.randperm(len(rows)), _BATCH):
                z, again = network.latent(rows[batch])
                mixture = network.estimate(z)
                diagonal = (1 / torch.diagonal(mixture[2], dim1=1, dim2=2)).sum()
                error = ((rows[batch] - again) ** 2).sum(dim=1).mean()
                loss = error + _ENERGY * _energy(z, mixture).mean() + _DIAGONAL * diagonal
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(network.modules.parameters(), 5.0)
                optimiser.step()
        network.modules.eval()
        with torch.no_grad():
            network.mixture = network.estimate(network.latent(rows)[0])
    return network


def _score(network: _Network, x: Floats) -> Floats:
    import torch

    with torch.no_grad():
        z, _ = network.latent(torch.tensor(x, dtype=torch.float32))
        return _energy(z, network.mixture).double().numpy()


def _state(network: _Network) -> dict[str, Any]:
    mixture = {f"mixture{i}": tensor.numpy() for i, tensor in enumerate(network.mixture)}
    return {"columns_of_network": network.columns, **weights_as_arrays(network.modules), **mixture}


def _restored(state: Mapping[str, Any]) -> _Network:
    import torch

    network = _Network(int(state["columns_of_network"]))
    load_weights(network.modules, state)
    network.modules.eval()
    network.mixture = tuple(torch.tensor(np.asarray(state[f"mixture{i}"])) for i in range(3))
    return network


SPECS: Mapping[str, Spec] = {
    "dagmm": Spec("DAGMM", _fit, _score, most=2_000, folds=3, state=_state, restored=_restored),
}
