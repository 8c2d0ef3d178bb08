"""scikit-learn's and PyOD's outlier models by name: how each is fitted, scores rows, and is stored without pickle.

Rows are standardised numbers; scores are higher for what is more anomalous, on any scale.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_SEED = 20_26
_MODEL, _WEIGHTS = "model", "weights."
# the packages whose types a stored model may hold; skops refuses all others
_TRUSTED = ("sklearn.", "pyod.models.", "numpy.", "scipy.")


@dataclass(frozen=True)
class Spec:
    """One model by name.

    Parameters
    ----------
    label : str
        Its name in facts.
    fit : callable
        The fitted model of rows, shape (n, columns).
    score : callable
        A fitted model and m rows to m scores.
    most : int
        Rows that it is fitted to at most.
    folds : int
        Fits by which normal cases get out-of-fold scores.
    one_by_one : bool
        Whether it ranks the rows of a batch among each other, so that each must be scored by itself.
    rebuild : callable, optional
        An unfitted network for so many columns, for models whose weights are PyTorch's.
    """

    label: str
    fit: Callable[[Floats], Any]
    score: Callable[[Any, Floats], Any]
    most: int = 3_000
    folds: int = 5
    one_by_one: bool = False
    rebuild: Callable[[int], Any] | None = None

    def fitted(self, x: Floats) -> Any:
        """The model of rows, shape (n, columns): the same whenever it is fitted to the same rows."""
        with _seeded(), warnings.catch_warnings():
            # constant columns, fewer distinct rows than centres: what that does to the scores shows out of fold
            warnings.simplefilter("ignore")
            return self.fit(x)

    def scores(self, model: Any, x: Floats) -> Floats:
        """Scores of n rows, shape (n,), each independent of the others up to rounding, which is rounded away."""
        with np.errstate(all="ignore"):
            if self.one_by_one:
                scores = np.concatenate([np.atleast_1d(self.score(model, row[None])) for row in x])
            else:
                scores = np.asarray(self.score(model, x))
        scores = np.nan_to_num(scores.astype(np.float64).reshape(-1), nan=0.0, posinf=1e30, neginf=-1e30)
        mantissa, exponent = np.frexp(np.where(np.abs(scores) < 1e-9, 0.0, scores))
        return np.asarray(np.ldexp(np.round(mantissa * 2**14) / 2**14, exponent))

    def dumps(self, model: Any) -> dict[str, Any]:
        """The model as arrays."""
        if self.rebuild is not None:
            return _weights_of(model)
        import skops.io

        return {_MODEL: np.frombuffer(skops.io.dumps(model), np.uint8)}

    def loads(self, state: Mapping[str, Any]) -> Any:
        """The model that `dumps` gave ``state`` of.

        Raises
        ------
        TypeError
            It holds types of other packages.
        """
        if self.rebuild is not None:
            return _with_weights(self.rebuild, state)
        import skops.io

        data = state[_MODEL].tobytes()
        unknown = skops.io.get_untrusted_types(data=data)
        if foreign := [name for name in unknown if not name.startswith(_TRUSTED)]:
            raise TypeError(f"the stored model holds {', '.join(foreign)}")
        return skops.io.loads(data, trusted=unknown)


@contextmanager
def _seeded() -> Iterator[None]:
    """Fixed seeds of the global generators, which PyOD uses, and their state as it was afterwards."""
    states = random.getstate(), np.random.get_state(), os.environ.get("PYTHONHASHSEED")
    random.seed(_SEED)
    np.random.seed(_SEED)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if states[2] is None:
            os.environ.pop("PYTHONHASHSEED", None)
        else:
            os.environ["PYTHONHASHSEED"] = states[2]


# scikit-learn


def _iforest(x: Floats) -> Any:
    from sklearn.ensemble import IsolationForest

    return IsolationForest(n_estimators=100, random_state=_SEED).fit(x)


def _ocsvm(x: Floats) -> Any:
    from sklearn.svm import OneClassSVM

    return OneClassSVM(nu=0.1, gamma="scale").fit(x)


def _lof(x: Floats) -> Any:
    from sklearn.neighbors import LocalOutlierFactor

    return LocalOutlierFactor(min(20, len(x) - 1), novelty=True).fit(x)


def _knn(x: Floats) -> Any:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=min(5, len(x))).fit(x)


def _pca(x: Floats) -> Any:
    from sklearn.decomposition import PCA

    return PCA(0.9, svd_solver="full").fit(x)


def _rpca(x: Floats) -> Any:
    return _pca(_low_rank_part(x))


def _low_rank_part(x: Floats, rounds: int = 60) -> Floats:
    """The low-rank part of x = low rank + sparse, by the augmented Lagrangian method (Lin, Chen & Ma 2010)."""
    norm = float(np.linalg.norm(x, 2)) or 1.0
    sparsity = 1 / np.sqrt(max(x.shape))
    dual = x / max(norm, float(np.abs(x).max()) / sparsity)
    step, sparse, low = 1.25 / norm, np.zeros_like(x), np.zeros_like(x)
    for _ in range(rounds):
        u, s, vt = np.linalg.svd(x - sparse + dual / step, full_matrices=False)
        low = (u * np.maximum(s - 1 / step, 0)) @ vt
        rest = x - low + dual / step
        sparse = np.sign(rest) * np.maximum(np.abs(rest) - sparsity / step, 0)
        gap = x - low - sparse
        dual, step = dual + step * gap, min(step * 1.5, 1e7 / norm)
        if np.linalg.norm(gap) < 1e-6 * (np.linalg.norm(x) or 1.0):
            break
    return low


def _kpca(x: Floats) -> Any:
    from sklearn.decomposition import KernelPCA

    # the width by the rows' own spread, as gamma="scale" of support vector machines
    gamma = 1 / (x.shape[1] * (float(x.var()) or 1.0))
    return KernelPCA(min(16, len(x) - 1), kernel="rbf", gamma=gamma, random_state=_SEED).fit(x)


def _kpca_error(model: Any, x: Floats) -> Floats:
    """Reconstruction error in the kernel's space (Hoffmann 2007)."""
    from sklearn.metrics.pairwise import rbf_kernel

    similar = rbf_kernel(x, model.X_fit_, gamma=model.gamma_).mean(axis=1)
    length = 1 - 2 * similar + model._centerer.K_fit_all_
    return np.asarray(length - (model.transform(x) ** 2).sum(axis=1))


def _gmm(x: Floats) -> Any:
    from sklearn.mixture import GaussianMixture

    kind = "full" if len(x) > 10 * x.shape[1] else "diag"
    return GaussianMixture(min(4, len(x) // 5 or 1), covariance_type=kind, reg_covar=1e-3, random_state=_SEED).fit(x)


def _kmeans(x: Floats) -> Any:
    from sklearn.cluster import KMeans

    return KMeans(min(8, len(x)), n_init=4, random_state=_SEED).fit(x)


def _kde(x: Floats) -> Any:
    from sklearn.neighbors import KernelDensity

    return KernelDensity(bandwidth="scott").fit(x)


def _iqr(x: Floats) -> Any:
    from sklearn.preprocessing import RobustScaler

    return RobustScaler().fit(x)


def _low_likelihood(model: Any, x: Floats) -> Floats:
    return -np.asarray(model.score_samples(x))


def _reconstruction_error(model: Any, x: Floats) -> Floats:
    return np.asarray(((x - model.inverse_transform(model.transform(x))) ** 2).sum(axis=1))


# PyOD


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

    return INNE(max_samples=min(8, len(x)), random_state=_SEED).fit(x)


def _pyod_score(model: Any, x: Floats) -> Any:
    return model.decision_function(x)


def _network(kind: str, columns: int, batch: int = 32) -> Any:
    if kind == "svdd":
        from pyod.models.deep_svdd import DeepSVDD

        return DeepSVDD(columns, epochs=30, batch_size=batch, preprocessing=False, verbose=0, random_state=_SEED)
    common = {"epoch_num": 20, "batch_size": batch, "preprocessing": False, "verbose": 0, "random_state": _SEED}
    if kind == "vae":
        from pyod.models.vae import VAE

        return VAE(output_activation_name="identity", **common)
    from pyod.models.auto_encoder import AutoEncoder

    return AutoEncoder(**common)


def _fit_network(kind: str, x: Floats) -> Any:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
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
    weights = {f"{_WEIGHTS}{name}": tensor.cpu().numpy() for name, tensor in network.state_dict().items()}
    if hasattr(model, "feature_size"):
        return {"columns_of_network": model.feature_size, **weights}
    return {"columns_of_network": model.n_features, "centre_of_network": model.c_.numpy(), **weights}


def _with_weights(rebuild: Callable[[int], Any], state: Mapping[str, Any]) -> Any:
    import torch

    columns = int(state["columns_of_network"])
    weights = {name.removeprefix(_WEIGHTS): torch.tensor(a) for name, a in state.items() if name.startswith(_WEIGHTS)}
    with _seeded(), torch.random.fork_rng():
        model = rebuild(columns)
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
            model.model_.load_state_dict(weights)
        else:
            model.feature_size = columns
            model.build_model()
            model.model.load_state_dict(weights)
            model.model.to(model.device)
    return model


def _deep(label: str, kind: str) -> Spec:
    fit, rebuild = partial(_fit_network, kind), partial(_network, kind)
    return Spec(label, fit, _network_score, most=2_000, folds=3, rebuild=rebuild)


def _of_pyod(label: str, module: str, **options: Any) -> Spec:
    return Spec(label, partial(_pyod, module), _pyod_score, **options)


SPECS: Mapping[str, Spec] = {
    "iforest": Spec("isolation forest", _iforest, _low_likelihood),
    "ocsvm": Spec("one-class SVM", _ocsvm, _low_likelihood),
    "lof": Spec("local outlier factor", _lof, _low_likelihood),
    "knn": Spec("distance to the nearest", _knn, lambda model, x: model.kneighbors(x)[0][:, -1]),
    "pca": Spec("principal components", _pca, _reconstruction_error),
    "rpca": Spec("robust principal components", _rpca, _reconstruction_error, most=1_000, folds=3),
    "kpca": Spec("kernel principal components", _kpca, _kpca_error, most=1_000),
    "gmm": Spec("Gaussian mixture", _gmm, _low_likelihood),
    "kmeans": Spec("k-means", _kmeans, lambda model, x: model.transform(x).min(axis=1)),
    "kde": Spec("kernel density", _kde, _low_likelihood),
    "iqr": Spec("interquartile range", _iqr, lambda model, x: np.abs(model.transform(x)).max(axis=1)),
    "ecod": _of_pyod("ECOD", "ecod", most=1_000, one_by_one=True),
    "copod": _of_pyod("COPOD", "copod", most=1_000, one_by_one=True),
    "hbos": _of_pyod("histograms", "hbos"),
    "loda": _of_pyod("LODA", "loda"),
    "inne": _of_pyod("INNE", "inne"),
    "svdd": _deep("deep SVDD", "svdd"),
    "autoencoder": _deep("autoencoder", "autoencoder"),
    "vae": _deep("variational autoencoder", "vae"),
}
