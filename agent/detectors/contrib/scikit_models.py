"""Outlier models of scikit-learn by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.detectors.contrib.outlier_model import SEED, Spec
from retrieval.arrays import Floats


def _iforest(x: Floats) -> Any:
    from sklearn.ensemble import IsolationForest

    return IsolationForest(n_estimators=100, random_state=SEED).fit(x)


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


def _low_rank_part(x: Floats) -> Floats:
    """The low-rank part of x = low rank + sparse, by the augmented Lagrangian method (Lin, Chen & Ma 2010)."""
    norm = float(np.linalg.norm(x, 2)) or 1.0
    sparsity = 1 / np.sqrt(max(x.shape))
    dual = x / max(norm, float(np.abs(x).max()) / sparsity)
    step, sparse, low = 1.25 / norm, np.zeros_like(x), np.zeros_like(x)
    for _ in range(60):
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
    return KernelPCA(min(16, len(x) - 1), kernel="rbf", gamma=gamma, random_state=SEED).fit(x)


def _kpca_error(model: Any, x: Floats) -> Floats:
    """Reconstruction error in the kernel's space (Hoffmann 2007)."""
    from sklearn.metrics.pairwise import rbf_kernel

    similar = rbf_kernel(x, model.X_fit_, gamma=model.gamma_).mean(axis=1)
    length = 1 - 2 * similar + model._centerer.K_fit_all_
    return np.asarray(length - (model.transform(x) ** 2).sum(axis=1))


def _one_class_distance(model: Any, x: Floats) -> Floats:
    """A score that does not grow with the number of rows that the model was fitted to, as the sum of kernels does."""
    return _low_likelihood(model, x) / float(np.abs(model.dual_coef_).sum())


def _gmm(x: Floats, rows: int) -> Any:
    from sklearn.mixture import GaussianMixture

    kind = "full" if rows > 10 * x.shape[1] else "diag"
    return GaussianMixture(min(4, rows // 5 or 1), covariance_type=kind, reg_covar=1e-3, random_state=SEED).fit(x)


def _kmeans(x: Floats) -> Any:
    from sklearn.cluster import KMeans

    return KMeans(min(8, len(x)), n_init=4, random_state=SEED).fit(x)


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


SPECS: Mapping[str, Spec] = {
    "iforest": Spec("isolation forest", _iforest, _low_likelihood),
    "ocsvm": Spec("one-class SVM", _ocsvm, _one_class_distance),
    "lof": Spec("local outlier factor", _lof, _low_likelihood),
    "knn": Spec("distance to the nearest", _knn, lambda model, x: model.kneighbors(x)[0][:, -1]),
    "pca": Spec("principal components", _pca, _reconstruction_error),
    "rpca": Spec("robust principal components", _rpca, _reconstruction_error, most=1_000, folds=3),
    "kpca": Spec("kernel principal components", _kpca, _kpca_error, most=1_000),
    "gmm": Spec("Gaussian mixture", _gmm, _low_likelihood, by_size=True),
    "kmeans": Spec("k-means", _kmeans, lambda model, x: model.transform(x).min(axis=1)),
    "kde": Spec("kernel density", _kde, _low_likelihood),
    "iqr": Spec("interquartile range", _iqr, lambda model, x: np.abs(model.transform(x)).max(axis=1)),
}
