"""Fitted detectors, packed for the store without pickle: arrays, and trees by skops."""

from __future__ import annotations

import io
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.detectors.clauses import ClauseModel
from agent.detectors.contrib.resources import NO_RESOURCES, Resources
from agent.detectors.registry import InstalledDetector
from agent.detectors.tabular import TabularModel
from agent.detectors.text_classifier import TextClassifier

# scikit-learn's storage of trees that were fitted here
_TRUSTED = [
    "sklearn._loss._loss.CyHalfBinomialLoss",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
]
_TEXTS, _CLAUSES, _FIELDS, _INSTALLED = "texts.", "clauses.", "fields", "detector."


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
            import skops.io

            packed[_FIELDS] = np.frombuffer(skops.io.dumps(self.fields.dumps()), np.uint8)
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
        fields, states = None, defaultdict[str, dict[str, Any]](dict)
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            texts = {name.removeprefix(_TEXTS): arrays[name] for name in arrays.files if name.startswith(_TEXTS)}
            clauses = {name.removeprefix(_CLAUSES): arrays[name] for name in arrays.files if name.startswith(_CLAUSES)}
            for name in arrays.files:
                if name.startswith(_INSTALLED):
                    detector, _, key = name.removeprefix(_INSTALLED).partition(".")
                    states[detector][key] = arrays[name]
            if _FIELDS in arrays.files:
                # slow to import, because it imports all of scikit-learn
                import skops.io

                fields = TabularModel.loads(skops.io.loads(arrays[_FIELDS].tobytes(), trusted=_TRUSTED))
        installed = tuple(InstalledDetector.load(name, state, resources) for name, state in states.items())
        return cls(
            fields,
            TextClassifier.loads(texts) if texts else None,
            installed,
            ClauseModel.loads(clauses) if clauses else None,
        )
