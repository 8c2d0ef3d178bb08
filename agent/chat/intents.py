"""What a message is about: a linear classifier over example phrasings of each intent, in three languages.

The features are a sentence embedding and character n-grams, which hold where the embedding model does not know the
language. The examples are data (`phrases/`); names, ids and numbers are replaced by what they are, so that the same
examples serve every source.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANGUAGES = ("en", "ko", "zh")
# weight of the embedding beside the n-grams; ridge penalty; how far a score is from certainty
_EMBEDDING_WEIGHT, _PENALTY, _TEMPERATURE = 1.0, 0.3, 0.12
# the embedding model knows English
_OTHER_SCRIPT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_CASE = re.compile(r"\bc\d+(?![\w.])", re.ASCII)
_VERDICT = re.compile(r"\bv[0-9a-f]{12,32}(?![\w])", re.ASCII)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# of the embedding model
_DIMENSIONS = 384
Encode = Callable[[Sequence[str]], "NDArray[Any]"]


@dataclass(frozen=True)
class Intent:
    """The likeliest intent of a message, its probability, and by how much it exceeds the next."""

    name: str
    probability: float
    margin: float


def normalise(message: str, sources: Collection[str] = (), fields: Collection[str] = ()) -> str:
    """The message with sources, fields, ids and numbers replaced by what they are."""
    text = _CASE.sub("CASE", _VERDICT.sub("", message))
    for names, kind in ((sources, "SOURCE"), (fields, "FIELD")):
        for name in sorted(names, key=len, reverse=True):
            text = re.sub(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", kind, text, flags=re.IGNORECASE)
    text = _NUMBER.sub("N", text)
    return " ".join(text.lower().split())


@cache
def examples() -> dict[str, tuple[str, ...]]:
    """The example phrasings of each intent, of all languages."""
    phrases: dict[str, list[str]] = {}
    for language in LANGUAGES:
        text = (files("agent.chat") / "phrases" / f"{language}.toml").read_text(encoding="utf-8")
        for intent, listed in tomllib.loads(text).items():
            phrases.setdefault(intent, []).extend(listed)
    return {intent: tuple(listed) for intent, listed in phrases.items()}


class IntentClassifier:
    """Fitted to the examples when it is made: a kernel ridge regression on the intents, which takes a second.

    Parameters
    ----------
    encode : callable
        Embeds n texts; the result has shape (n, dimensions).
    """

    def __init__(self, encode: Encode) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.kernel_ridge import KernelRidge

        self._encode = encode
        self._ngrams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
        self._names = sorted(examples())
        texts = [normalise(text) for name in self._names for text in examples()[name]]
        intents = [index for index, name in enumerate(self._names) for _ in examples()[name]]
        self._ngrams.fit(texts)
        self._model = KernelRidge(alpha=_PENALTY)
        self._model.fit(self._features(texts), np.eye(len(self._names))[intents])

    def classify(self, message: str) -> Intent:
        """The intent of a message that `normalise` returned."""
        scores = self._model.predict(self._features([message]))[0] / _TEMPERATURE
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        second, first = np.argsort(shares)[-2:]
        return Intent(self._names[first], float(shares[first]), float(shares[first] - shares[second]))

    def _features(self, texts: Sequence[str]) -> Any:
        from scipy.sparse import csr_matrix, hstack

        english = [index for index, text in enumerate(texts) if not _OTHER_SCRIPT.search(text)]
        embedded = np.zeros((len(texts), _DIMENSIONS))
        if english:
            embedded[english] = self._encode([texts[index] for index in english])
        return hstack([self._ngrams.transform(texts), csr_matrix(_EMBEDDING_WEIGHT * embedded)]).tocsr()
