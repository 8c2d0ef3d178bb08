"""Kinds of templates: clusters of similar ones, that are held out together so that no sibling stays in training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.scoring.further_signals import Conditions
from retrieval.arrays import Bools, Ints

# mean cosine distance up to which clusters are joined; templates above which they are not clustered
_DISTANCE, _MOST = 0.4, 3_000
# different contents for each template from which on texts are lines of templates, not prose
_LINES_PER_TEMPLATE = 1.5
_FOLDS, _SEED = 5, 20_26
_FEWEST_KINDS = 3


def are_lines_of_templates(contents: Collection[int]) -> bool:
    """Whether texts are lines of templates, and not prose, from how many ``contents`` each template has."""
    return sum(contents) >= _LINES_PER_TEMPLATE * len(contents)


def kinds_of_templates(vectors: NDArray[np.float32]) -> Ints:
    """The number of the kind of each of n templates, shape (n,), by average-linkage clustering of their embeddings.

    Many templates are mostly free texts; each of them is a kind of its own.

    Parameters
    ----------
    vectors : shape (n, dimensions)
        Unit length.
    """
    if not 2 <= len(vectors) <= _MOST:
        return np.arange(len(vectors))
    from sklearn.cluster import AgglomerativeClustering

    clustering = AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="average", distance_threshold=_DISTANCE
    )
    return np.asarray(clustering.fit_predict(vectors), dtype=np.int64)


def folds_of_kinds(kinds: Ints, anomalous: Bools, most: int) -> Ints | None:
    """The number of each template's fold, shape (n,); a kind is in one fold, and each label in several.

    scikit-learn's StratifiedGroupKFold may leave a fold without any anomalous template.

    Parameters
    ----------
    kinds : shape (n,)
    anomalous : shape (n,)
    most : int
        Folds at most.

    Returns
    -------
    shape (n,) or None
        None if all templates of a label are of one kind.
    """
    members = {kind: np.flatnonzero(kinds == kind) for kind in np.unique(kinds).tolist()}
    with_anomalous = [kind for kind, of_kind in members.items() if anomalous[of_kind].any()]
    with_normal = [kind for kind, of_kind in members.items() if not anomalous[of_kind].all()]
    folds = min(most, len(with_anomalous), len(with_normal))
    if folds < 2:
        return None
    fold = np.full(len(kinds), -1)
    for label, of_label in ((True, with_anomalous), (False, with_normal)):
        for kind in sorted(of_label, key=lambda kind: (-len(members[kind]), kind)):
            if fold[members[kind][0]] < 0:
                filled = np.bincount(fold[(fold >= 0) & (anomalous == label)], minlength=folds)
                fold[members[kind]] = filled.argmin()
    rests = [anomalous[fold != held_out] for held_out in range(folds)]
    return fold if all(0 < rest.sum() < len(rest) for rest in rests) else None


def similarity_to_other_kinds(vectors: NDArray[np.float32], kinds: Ints) -> NDArray[np.float32]:
    """Cosine similarity of each of n templates to the nearest one of another kind, shape (n,); -1 if there is none."""
    similar = vectors @ vectors.T
    similar[kinds[:, None] == kinds[None]] = -1.0
    return np.asarray(similar.max(axis=1))


def stratified_folds(anomalous: Bools, folds: int, seed: int) -> Ints:
    """The number of each case's fold, shape (n,); each label is spread over all folds.

    scikit-learn's StratifiedKFold refuses labels with fewer cases than folds.
    """
    numbers = np.zeros(len(anomalous), dtype=np.int64)
    random = np.random.default_rng(seed)
    for label in (True, False):
        places = random.permutation(np.flatnonzero(anomalous == label))
        numbers[places] = np.arange(len(places)) % folds
    return numbers


def folds_of_anomalies(anomalous: Bools, kinds: Sequence[str], folds: int, seed: int) -> Ints:
    """The number of each case's fold, shape (n,); where there are enough kinds of anomalies, each is in one fold.

    So a classifier's out-of-fold answers are about kinds that it has not seen, which is what it is weighed by.
    """
    numbers = stratified_folds(anomalous, folds, seed)
    sizes = Counter(kind for kind, bad in zip(kinds, anomalous.tolist(), strict=True) if bad)
    if len(sizes) < max(_FEWEST_KINDS, folds):
        return numbers
    filled, fold_of = [0] * folds, dict[str, int]()
    for kind, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        fold_of[kind] = filled.index(min(filled))
        filled[fold_of[kind]] += size
    of_kind = [fold_of.get(kind, 0) for kind in kinds]
    return np.where(anomalous, of_kind, numbers)


def conditions_of_rows(kinds: Ints, rounds: int) -> Conditions:
    """How n rows of fields are held out: each normal one is a kind of its own.

    Parameters
    ----------
    kinds : shape (n,)
        Numbers of the rows' kinds of anomaly, 0 for normal ones.
    rounds : int
        2 if the rows' signals are also computed as of new kinds.
    """
    anomalous, cases = kinds > 0, np.arange(len(kinds))
    folds = stratified_folds(anomalous, _FOLDS, _SEED)
    if rounds < 2:
        return Conditions(folds, (cases,))
    return Conditions(np.where(anomalous, kinds % _FOLDS, folds), (cases, np.where(anomalous, -kinds, cases)))


def conditions_of_texts(vectors: NDArray[np.float32], anomalous: Bools, rounds: int) -> Conditions:
    """How n templates are held out: those of a kind together.

    Parameters
    ----------
    vectors : shape (n, dimensions)
        Unit length.
    anomalous : shape (n,)
    rounds : int
        2 if the templates' signals are also computed as of new kinds.
    """
    kinds = kinds_of_templates(vectors)
    folds = folds_of_kinds(kinds, anomalous, _FOLDS)
    return Conditions(stratified_folds(anomalous, _FOLDS, _SEED) if folds is None else folds, (kinds,) * rounds)
