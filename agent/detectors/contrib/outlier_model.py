"""What an outlier model is: how it is fitted to rows, scores rows, and is stored without pickle.

Rows are standardised numbers; scores are higher for what is more anomalous, on any scale.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from retrieval.arrays import Floats

SEED = 20_26
_MODEL = "model"
# how the names of types begin that a stored model may hold beside those that skops knows; all others are refused
_TRUSTED = (
    "sklearn.tree._tree.Tree",
    "sklearn.metrics._dist_metrics.",
    "sklearn.neighbors._kd_tree.",
    "sklearn.neighbors._ball_tree.",
    "pyod.models.",
)


@dataclass(frozen=True)
class Spec:
    """One model by name.

    Parameters
    ----------
    label : str
        Its name in facts.
    fit : callable
        The fitted model of rows, shape (n, columns); with ``by_size``, of these and the number of rows of the whole.
    score : callable
        A fitted model and m rows to m scores.
    most : int
        Rows that it is fitted to at most.
    folds : int
        Fits by which normal cases get out-of-fold scores.
    one_by_one : bool
        Whether it ranks the rows of a batch among each other, so that each must be scored by itself.
    by_size : bool
        Whether the kind of model depends on the number of rows, see `of_size`.
    state, restored : callables, optional
        A fitted model as arrays, and the reverse, for models that skops does not store.
    """

    label: str
    fit: Callable[..., Any]
    score: Callable[[Any, Floats], Any]
    most: int = 3_000
    folds: int = 5
    one_by_one: bool = False
    by_size: bool = False
    state: Callable[[Any], dict[str, Any]] | None = None
    restored: Callable[[Mapping[str, Any]], Any] | None = None

    def of_size(self, rows: int) -> Spec:
        """The model as it is of so many rows, also where it is fitted to a fold of them."""
        return replace(self, fit=partial(self.fit, rows=rows)) if self.by_size else self

    def fitted(self, x: Floats) -> Any:
        """The model of rows, shape (n, columns): the same whenever it is fitted to the same rows."""
        with seeded(), warnings.catch_warnings():
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
        if self.state is not None:
            return self.state(model)
        import skops.io

        return {_MODEL: np.frombuffer(skops.io.dumps(model), np.uint8)}

    def loads(self, state: Mapping[str, Any]) -> Any:
        """The model that `dumps` gave ``state`` of.

        Raises
        ------
        TypeError
            It holds types of other packages.
        """
        if self.restored is not None:
            return self.restored(state)
        import skops.io

        data = state[_MODEL].tobytes()
        unknown = skops.io.get_untrusted_types(data=data)
        if foreign := [name for name in unknown if not name.startswith(_TRUSTED)]:
            raise TypeError(f"the stored model holds {', '.join(foreign)}")
        return skops.io.loads(data, trusted=unknown)


@contextmanager
def seeded() -> Iterator[None]:
    """Fixed seeds of the global generators, which PyOD uses, and their state as it was afterwards."""
    states = random.getstate(), np.random.get_state(), os.environ.get("PYTHONHASHSEED")
    random.seed(SEED)
    np.random.seed(SEED)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if states[2] is None:
            os.environ.pop("PYTHONHASHSEED", None)
        else:
            os.environ["PYTHONHASHSEED"] = states[2]
