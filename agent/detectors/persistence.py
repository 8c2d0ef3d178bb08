"""What fitting makes beside the judge's figures, packed for the store without pickle: arrays, and trees by skops."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.detectors.tabular import TabularModel
from agent.detectors.text_classifier import TextClassifier

# scikit-learn's own storage: our store wrote it, from trees fitted here
_TRUSTED = [
    "sklearn._loss._loss.CyHalfBinomialLoss",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
]


_TEXTS, _FIELDS = "texts.", "fields"


@dataclass(frozen=True)
class FittedDetectors:
    """What a source's cases have taught beside its `SourceModel`; None where they do not lend themselves."""

    fields: TabularModel | None = None
    texts: TextClassifier | None = None

    def dumps(self) -> bytes:
        packed, out = dict[str, Any](), io.BytesIO()
        if self.texts is not None:
            packed = {f"{_TEXTS}{name}": value for name, value in self.texts.dumps().items()}
        if self.fields is not None:
            import skops.io

            packed[_FIELDS] = np.frombuffer(skops.io.dumps(self.fields.dumps()), np.uint8)
        np.savez(out, **packed)
        return out.getvalue()

    @classmethod
    def loads(cls, packed: bytes) -> FittedDetectors:
        fields, texts = None, dict[str, Any]()
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            texts = {name.removeprefix(_TEXTS): arrays[name] for name in arrays.files if name.startswith(_TEXTS)}
            if _FIELDS in arrays.files:
                # dear to import: it asks scikit-learn for all that it has
                import skops.io

                fields = TabularModel.loads(skops.io.loads(arrays[_FIELDS].tobytes(), trusted=_TRUSTED))
        return cls(fields, TextClassifier.loads(texts) if texts else None)
