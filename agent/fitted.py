"""The models that fitting makes beside the judge's figures, packed for the store by skops, without pickle."""

from __future__ import annotations

from dataclasses import dataclass

from agent.signals.fields import FieldModel
from agent.signals.texts import TextModel

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


@dataclass(frozen=True)
class Fitted:
    """What a source's cases have taught beside its `agent.fusion.Judge`; None where they do not lend themselves."""

    fields: FieldModel | None = None
    texts: TextModel | None = None

    def dumps(self) -> bytes:
        import skops.io

        state = {name: model.dumps() for name, model in (("fields", self.fields), ("texts", self.texts)) if model}
        packed: bytes = skops.io.dumps(state)
        return packed

    @classmethod
    def loads(cls, packed: bytes) -> Fitted:
        import skops.io

        state = skops.io.loads(packed, trusted=_TRUSTED)
        return cls(
            FieldModel.loads(state["fields"]) if "fields" in state else None,
            TextModel.loads(state["texts"]) if "texts" in state else None,
        )
