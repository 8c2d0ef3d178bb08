"""A scikit-learn classifier: a source of its own, in a temporary data directory that goes with it."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from agent.core.numerics import logit
from agent.core.records import JudgeError, Verdict, clean_text
from agent.core.settings import Settings, settings
from agent.data.read_options import ReadOptions
from agent.data.readers import DEFAULT_NORMAL, ParsedRow
from agent.data.readers.values import normalise_label
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.learn import learn

_SOURCE, _LABEL, _TEXT, _STORE = "classifier", "precedent_label", "text", "precedent.db"


class _Home:
    """The store of a data directory with one source, as bytes; written to a folder when it is first used."""

    def __init__(self, store: bytes, model: str) -> None:
        self._store, self._model = store, model

    @cached_property
    def context(self) -> AppContext:
        """What judges by it."""
        folder = tempfile.mkdtemp(prefix="precedent-classifier-")
        (Path(folder) / _STORE).write_bytes(self._store)
        context = AppContext(_settings_for(Path(folder), self._model))
        weakref.finalize(self, _discard, context, folder)
        return context

    def __getstate__(self) -> dict[str, Any]:
        return {"_store": self._store, "_model": self._model}


def _settings_for(home: Path, model: str) -> Settings:
    return settings().model_copy(update={"home": home, "store": None, "chroma": None, "model": model})


def _discard(context: AppContext, folder: str) -> None:
    context.close()
    shutil.rmtree(folder, ignore_errors=True)


class PrecedentClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Judge rows or texts by labelled precedents.

    The cases are kept with the estimator; nothing is written to the user's data directory.

    Parameters
    ----------
    normal : object, optional
        The class that is normal. By default the one that `precedent learn` takes for normal (``0``, ``normal``,
        ``-``, ``ham``, ``false``), else the first in order.
    brief : str
        What the records are, in plain words, for the language model.
    model : str
        The language model: as the setting ``model``; ``none`` uses the other detectors only.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The two classes in order.
    n_features_in_ : int
        Number of columns; 1 for texts.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where a data frame was given.

    Notes
    -----
    `predict` follows the larger probability, as scikit-learn's classifiers do. `judge` gives whole verdicts: with
    precedents, and *unsure* where the source's error rate would be exceeded.

    Examples
    --------
    >>> from agent import PrecedentClassifier
    >>> texts = ["disk is full", "user logged in", "disk failed", "user logged out"] * 5
    >>> labels = ["fault", "normal"] * 10
    >>> PrecedentClassifier().fit(texts, labels).predict(["disk failed"])   # doctest: +SKIP
    array(['fault'], dtype='<U6')
    """

    def __init__(self, normal: object = None, brief: str = "", model: str = "none") -> None:
        self.normal = normal
        self.brief = brief
        self.model = model

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    def fit(self, X: Any, y: ArrayLike) -> PrecedentClassifier:  # noqa: N803
        """Learn labelled records.

        Parameters
        ----------
        X : array or data frame of shape (n_samples, n_features), or sequence of n_samples texts
            Numbers and categories; cells may be missing, but not all of a row (`ValueError`).
        y : array of shape (n_samples,)
            The classes, two of them.

        Returns
        -------
        PrecedentClassifier
            The estimator itself.
        """
        if y is None:
            raise ValueError("This PrecedentClassifier estimator requires y to be passed, but the target y is None.")
        for name, value in (("brief", self.brief), ("model", self.model)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, not {type(value).__name__}")
        frame = self._frame(X, reset=True)
        labels = column_or_1d(y, warn=True)
        if labels.dtype == object and any(label is None for label in labels):
            raise ValueError("y has missing values (None): each sample needs a class")
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        if len(labels) != frame.height:
            raise ValueError(f"X has {frame.height} samples and y has {len(labels)}: inconsistent numbers of samples")
        self.classes_, encoded = np.unique(labels, return_inverse=True)
        if len(self.classes_) != 2:
            kind = "Only binary classification is supported. " if len(self.classes_) > 2 else ""
            raise ValueError(f"{kind}y has {len(self.classes_)} class(es); a classifier needs 2: normal and anomalous")
        self._anomalous = 1 - self._normal_class()
        anomalous = np.where(encoded == self._anomalous, "anomalous", "normal")
        labelled = frame.with_columns(pl.Series(_LABEL, anomalous.tolist(), pl.String))
        self._home = _Home(self._learned(labelled), self.model)
        return self

    def judge(self, X: Any) -> list[Verdict]:  # noqa: N803
        """The verdict on each record: its label may be *unsure*.

        Parameters
        ----------
        X : array, data frame or texts
            As for `fit`.

        Raises
        ------
        ValueError
            A row or text is empty: a row whose cells are all missing has nothing to judge.
        """
        check_is_fitted(self)
        frame = self._frame(X, reset=False)
        context = self._home.context
        options = ReadOptions.model_validate(context.source(_SOURCE).reading)
        rows = list(options.read_table(frame.columns, frame.to_dicts(), context.settings.max_record_chars))
        records = [item.record for item in rows if isinstance(item, ParsedRow)]
        if len(records) < len(rows):
            unread = next(item for item in rows if not isinstance(item, ParsedRow))
            raise ValueError(f"row {unread.line} of X cannot be read: {unread.reason}")
        verdicts = list(judge_many(context, build(context), records, _SOURCE, "facts", keep=False))
        for verdict in verdicts:
            if isinstance(verdict, JudgeError):
                raise ValueError(str(verdict))
        return cast(list[Verdict], verdicts)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """The calibrated probability of each class, shape ``(n_samples, 2)``."""
        probability = np.array([verdict.probability for verdict in self.judge(X)], dtype=np.float64)
        columns = [1 - probability, probability]
        return np.column_stack(columns if self._anomalous == 1 else columns[::-1])

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """The log-odds of the second class, shape ``(n_samples,)``."""
        return np.array([logit(probability) for probability in self.predict_proba(X)[:, 1]], dtype=np.float64)

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The more probable class of each record, shape ``(n_samples,)``."""
        most_probable = self.predict_proba(X).argmax(axis=1)
        return cast(NDArray[Any], self.classes_[most_probable])

    def _normal_class(self) -> int:
        if self.normal is not None:
            found = np.flatnonzero(self.classes_ == self.normal)
            if len(found) != 1:
                raise ValueError(f"normal={self.normal!r} is not one of the classes {self.classes_.tolist()}")
            return int(found[0])
        normal = {normalise_label(value) for value in DEFAULT_NORMAL}
        alike = [n for n, value in enumerate(self.classes_.tolist()) if normalise_label(str(value)) in normal]
        return alike[0] if len(alike) == 1 else 0

    def _learned(self, labelled: pl.DataFrame) -> bytes:
        """The store with a source of these cases."""
        with tempfile.TemporaryDirectory(prefix="precedent-classifier-") as folder:
            home, table = Path(folder) / "home", Path(folder) / "cases.parquet"
            labelled.write_parquet(table)
            context = AppContext(_settings_for(home, self.model))
            try:
                options = ReadOptions(format="parquet", label=_LABEL, normal=("normal",))
                result = learn(context, [table], _SOURCE, options, brief=self.brief)
            finally:
                context.close()
            if result.language_missing and self.model not in ("none", "auto"):
                raise ValueError(f"model={self.model!r}: {result.language_missing}") from result.language_missing
            if result.unreadable:
                raise ValueError(f"row {result.unreadable[0].line} of X cannot be read: {result.unreadable[0].reason}")
            # the vectors are made again from the store
            return (home / _STORE).read_bytes()

    def _frame(self, X: Any, *, reset: bool) -> pl.DataFrame:  # noqa: N803
        """X as a data frame; remembers its columns, or compares them with those of `fit`."""
        if _is_texts(X):
            values = np.asarray([clean_text(str(text)) for text in X], dtype=object).reshape(-1, 1)
            validate_data(self, values, reset=reset, skip_check_array=True)
            return pl.DataFrame({_TEXT: values[:, 0].tolist()}, schema={_TEXT: pl.String})
        finite = "allow-nan" if _is_numeric(X) else False
        values = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite=finite)
        names = getattr(self, "feature_names_in_", [f"x{number}" for number in range(values.shape[1])])
        return pl.DataFrame(
            [pl.Series(name, _cells(values[:, number]), strict=False) for number, name in enumerate(names)]
        )


def _is_texts(X: Any) -> bool:  # noqa: N803
    """Whether X is a sequence of texts, not a table."""
    is_table = isinstance(X, str) or hasattr(X, "columns") or getattr(X, "ndim", 1) != 1
    return not is_table and hasattr(X, "__len__") and len(X) > 0 and isinstance(next(iter(X)), str)


def _is_numeric(X: Any) -> bool:  # noqa: N803
    return getattr(getattr(X, "dtype", None), "kind", "f") in "fiub"


def _cells(column: NDArray[Any]) -> list[Any]:
    """A column's cells, in Python's types."""
    cells = [None if cell is None or cell != cell else cell for cell in column.tolist()]
    for cell in cells:
        if not isinstance(cell, str | float | int | None):
            raise TypeError(f"argument must be a string or a number, not {type(cell).__name__!r}")
    if any(isinstance(cell, str) for cell in cells):
        return [None if cell is None else clean_text(str(cell)) for cell in cells]
    return cells
