"""Fitted detectors, packed for the store without pickle: as arrays."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.detectors.contrib.resources import NO_RESOURCES, Resources
from agent.detectors.registry import InstalledDetector

if TYPE_CHECKING:
    from agent.detectors.clauses import ClauseModel
    from agent.detectors.tabular import TabularModel
    from agent.detectors.text_classifier import TextClassifier

# what models of fields that earlier versions fitted consist of; they were stored by skops
_TRUSTED = [
    "sklearn._loss._loss.CyHalfBinomialLoss",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
]
_TEXTS, _CLAUSES, _FIELDS, _INSTALLED, _BY_SKOPS = "texts.", "clauses.", "fields.", "detector.", "fields"
# the array of a state's plain values, and what stands there for an array; no text of a record has NUL
_PLAIN, _ARRAY = "plain", "\0array"


def stored_state(packed: bytes | None, detector: str) -> dict[str, Any]:
    """What a detector beside the built-in ones has stored among the packed ones; nothing if it is not among them."""
    prefix = f"{_INSTALLED}{detector}."
    if packed is None:
        return {}
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return {name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)}


@dataclass(frozen=True)
class FittedDetectors:
    """What was fitted to a source's cases beside its `SourceModel`; None where the cases do not allow it."""

    fields: TabularModel | None = None
    texts: TextClassifier | None = None
    installed: tuple[InstalledDetector, ...] = ()
    clauses: ClauseModel | None = None

    def dumps(self) -> bytes:
        """The detectors as one packed array file."""
        packed, out = dict[str, Any](), io.BytesIO()
        if self.texts is not None:
            packed = {f"{_TEXTS}{name}": value for name, value in self.texts.dumps().items()}
        if self.clauses is not None:
            packed |= {f"{_CLAUSES}{name}": value for name, value in self.clauses.dumps().items()}
        if self.fields is not None:
            packed |= {f"{_FIELDS}{name}": array for name, array in _as_arrays(self.fields.dumps()).items()}
        for detector in self.installed:
            packed |= {f"{_INSTALLED}{detector.name}.{key}": array for key, array in detector.save().items()}
        np.savez(out, **packed)
        return out.getvalue()

    @classmethod
    def loads(cls, packed: bytes, resources: Resources = NO_RESOURCES) -> FittedDetectors:
        """The detectors that `dumps` packed, with the resources of their source.

        Raises
        ------
        DetectorError
            A detector of an installed package cannot be loaded.
        """
        # records of known templates need none of them
        from agent.detectors.clauses import ClauseModel
        from agent.detectors.tabular import TabularModel
        from agent.detectors.text_classifier import TextClassifier

        fields, states = None, defaultdict[str, dict[str, Any]](dict)
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            texts = {name.removeprefix(_TEXTS): arrays[name] for name in arrays.files if name.startswith(_TEXTS)}
            clauses = {name.removeprefix(_CLAUSES): arrays[name] for name in arrays.files if name.startswith(_CLAUSES)}
            for name in arrays.files:
                if name.startswith(_INSTALLED):
                    detector, _, key = name.removeprefix(_INSTALLED).partition(".")
                    states[detector][key] = arrays[name]
            of_fields = {name.removeprefix(_FIELDS): arrays[name] for name in arrays.files if name.startswith(_FIELDS)}
            if of_fields:
                fields = TabularModel.loads(_of_arrays(of_fields))
            elif _BY_SKOPS in arrays.files:
                fields = TabularModel.loads(_of_skops(arrays[_BY_SKOPS].tobytes()))
        installed = tuple(InstalledDetector.load(name, state, resources) for name, state in states.items())
        return cls(
            fields,
            TextClassifier.loads(texts) if texts else None,
            installed,
            ClauseModel.loads(clauses) if clauses else None,
        )


def _as_arrays(state: dict[str, Any]) -> dict[str, Any]:
    """A state of plain values and arrays, nested, as arrays alone, see `_of_arrays`."""
    arrays = dict[str, Any]()

    def reference(value: Any) -> dict[str, str]:
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{type(value).__name__} is neither a plain value nor an array")
        name = str(len(arrays))
        arrays[name] = value
        return {_ARRAY: name}

    plain = json.dumps(state, default=reference)
    return {**arrays, _PLAIN: np.frombuffer(plain.encode(), np.uint8)}


def _of_arrays(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The state that `_as_arrays` gave ``arrays`` of."""

    def resolved(value: dict[str, Any]) -> Any:
        return arrays[value[_ARRAY]] if _ARRAY in value else value

    state: dict[str, Any] = json.loads(arrays[_PLAIN].tobytes(), object_hook=resolved)
    return state


def _of_skops(packed: bytes) -> dict[str, Any]:
    """The state of a model of fields that an earlier version stored."""
    # slow to import, because it imports all of scikit-learn
    import skops.io

    from agent.detectors.tree_ensemble import TreeEnsemble

    state: dict[str, Any] = skops.io.loads(packed, trusted=_TRUSTED)
    return {**state, "trees": [TreeEnsemble.of(trees).state() for trees in state["trees"]]}
