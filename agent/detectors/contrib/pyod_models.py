"""Outlier models of PyOD by name; PyOD is imported when one is fitted or loaded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from agent.detectors.contrib.network_weights import load_weights, weights_as_arrays
from agent.detectors.contrib.outlier_model import SEED, Spec, seeded
from retrieval.arrays import Floats


def _pyod(module: str, x: Floats) -> Any:
    if module == "ecod":
        from pyod.models.ecod import ECOD

        return ECOD().fit(x)
    if module == "copod":
        from pyod.models.copod import COPOD

        return COPOD().fit(x)
    if module == "hbos":
        from pyod.models.hbos import HBOS

        return HBOS().fit(x)
    if module == "loda":
        from pyod.models.loda import LODA

        return LODA().fit(x)
    from pyod.models.inne import INNE

    return INNE(max_samples=min(8, len(x)), random_state=SEED).fit(x)


def _pyod_score(model: Any, x: Floats) -> Any:
    return model.decision_function(x)


def _network(kind: str, columns: int, batch: int = 32) -> Any:
    if kind == "svdd":
        from pyod.models.deep_svdd import DeepSVDD

        return DeepSVDD(columns, epochs=30, batch_size=batch, preprocessing=False, verbose=0, random_state=SEED)
    common = {"epoch_num": 20, "batch_size": batch, "preprocessing": False, "verbose": 0, "random_state": SEED}
    if kind == "vae":
        from pyod.models.vae import VAE

        return VAE(output_activation_name="identity", **common)
    from pyod.models.auto_encoder import AutoEncoder

    return AutoEncoder(**common)


def _fit_network(kind: str, x: Floats) -> Any:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        # an incomplete batch is dropped, and one of a single row cannot be normalised
        return _network(kind, x.shape[1], min(32, len(x))).fit(x)


def _network_score(model: Any, x: Floats) -> Any:
    network: Any = getattr(model, "model", None)
    if hasattr(network, "reparameterize"):
        # the mean of the latent distribution, not a draw: the same record has the same score
        network.reparameterize = lambda mean, _: mean
    return model.decision_function(x.astype(np.float32))


def _weights_of(model: Any) -> dict[str, Any]:
    network = model.model if hasattr(model, "feature_size") else model.model_
    weights = weights_as_arrays(network)
    if hasattr(model, "feature_size"):
        return {"columns_of_network": model.feature_size, **weights}
    return {"columns_of_network": model.n_features, "centre_of_network": model.c_.numpy(), **weights}


def _with_weights(kind: str, state: Mapping[str, Any]) -> Any:
    import torch

    columns = int(state["columns_of_network"])
    with seeded(), torch.random.fork_rng():
        model = _network(kind, columns)
        if "centre_of_network" in state:
            from pyod.models.deep_svdd import InnerDeepSVDD

            model.model_ = InnerDeepSVDD(
                columns,
                use_ae=model.use_ae,
                hidden_neurons=model.hidden_neurons,
                hidden_activation=model.hidden_activation,
                output_activation=model.output_activation,
                dropout_rate=model.dropout_rate,
                l2_regularizer=model.l2_regularizer,
            )
            model.c_, model.n_features_in_ = torch.tensor(state["centre_of_network"]), columns
            load_weights(model.model_, state)
        else:
            model.feature_size = columns
            model.build_model()
            load_weights(model.model, state)
            model.model.to(model.device)
    return model


def _deep(label: str, kind: str) -> Spec:
    fit, restored = partial(_fit_network, kind), partial(_with_weights, kind)
    return Spec(label, fit, _network_score, most=2_000, folds=3, state=_weights_of, restored=restored)


def _of_pyod(label: str, module: str, **options: Any) -> Spec:
    return Spec(label, partial(_pyod, module), _pyod_score, **options)


SPECS: Mapping[str, Spec] = {
    "ecod": _of_pyod("ECOD", "ecod", most=1_000, one_by_one=True),
    "copod": _of_pyod("COPOD", "copod", most=1_000, one_by_one=True),
    "hbos": _of_pyod("histograms", "hbos"),
    "loda": _of_pyod("LODA", "loda"),
    "inne": _of_pyod("INNE", "inne"),
    "svdd": _deep("deep SVDD", "svdd"),
    "autoencoder": _deep("autoencoder", "autoencoder"),
    "vae": _deep("variational autoencoder", "vae"),
}
