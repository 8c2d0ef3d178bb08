"""What a message is about: linear classifiers over example phrasings of each intent, one for each of three languages.

The features are character n-grams and, in English, which the embedding model knows, a sentence embedding. The examples
are data (`phrases/`); names, ids and numbers are replaced by what they are, so that the same examples serve every
source. The n-gram classifiers are fitted when a message of their language comes first, in a quarter of a second. To
embed the examples would take longer: the weights of the embedding's classifier are in `phrases/en.npz`, which
``python -m agent.chat.intents`` writes.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.core.locale import LANGUAGES, language_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# chosen by cross-validation that keeps neighbouring phrasings together: regularisation of both classifiers, weight of
# the embedding's scores, how far a score is from certainty
_NGRAM_C, _EMBEDDING_C, _EMBEDDING_WEIGHT = 1.0, 10.0, 0.4
_TEMPERATURE = {"en": 0.45, "ko": 0.25, "zh": 0.25}
_LONGEST_NGRAM = {"en": 5, "ko": 4, "zh": 4}
_CASE = re.compile(r"(?<![A-Za-z0-9_])c\d+(?![\w.])", re.ASCII)
_VERDICT = re.compile(r"\bv[0-9a-f]{12,32}(?![\w])", re.ASCII)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SEPARATOR = re.compile(r"[|\n]")
# an embedding model is another one if it embeds this differently
_PROBE = "why is this record anomalous?"
_WEIGHTS = "en.npz"
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
    text = _NUMBER.sub("N", text).replace("\u2019", "'").replace("\uff1f", "?").replace("\uff01", "!")
    return " ".join(text.lower().split())


@cache
def examples(language: str) -> dict[str, tuple[str, ...]]:
    """The example phrasings of each intent in a language."""
    text = (files("agent.chat") / "phrases" / f"{language}.toml").read_text(encoding="utf-8")
    return {
        intent: tuple(phrase.strip() for phrase in _SEPARATOR.split(phrases) if phrase.strip())
        for intent, phrases in tomllib.loads(text).items()
    }


def _labelled(language: str) -> tuple[list[str], list[str]]:
    """The normalised examples of a language, and the intent of each."""
    pairs = [(normalise(text), intent) for intent, listed in examples(language).items() for text in listed]
    return [text for text, _ in pairs], [intent for _, intent in pairs]


def examples_digest() -> str:
    """SHA-256 (hex) of the examples that the weights of the embedding's classifier come from."""
    return hashlib.sha256(repr(_labelled("en")).encode()).hexdigest()


class _NgramClassifier:
    """Scores of the intents by the characters of a message."""

    def __init__(self, language: str) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.svm import LinearSVC

        texts, intents = _labelled(language)
        longest = _LONGEST_NGRAM[language]
        self._ngrams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, longest), sublinear_tf=True)
        self._model = LinearSVC(C=_NGRAM_C, random_state=0)
        self._model.fit(self._ngrams.fit_transform(texts), intents)
        self.names = [str(name) for name in self._model.classes_]

    def scores(self, text: str) -> NDArray[Any]:
        """One score an intent, in the order of `names`."""
        scores: NDArray[Any] = self._model.decision_function(self._ngrams.transform([text]))[0]
        return scores


class _EmbeddingClassifier:
    """Scores of the intents by the meaning of an English message."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        with as_file(files("agent.chat") / "phrases" / _WEIGHTS) as path, np.load(path) as stored:
            weights = {name: stored[name] for name in stored.files}
        if encode([_PROBE])[0] @ weights["probe"].astype(np.float32) < 0.99:
            # another embedding model
            weights = fit_embedding(encode)
        self._coefficients = weights["coefficients"].astype(np.float32)
        self._intercepts = weights["intercepts"].astype(np.float32)

    def scores(self, text: str) -> NDArray[Any]:
        """One score an intent, in alphabetic order."""
        scores: NDArray[Any] = self._encode([text])[0] @ self._coefficients.T + self._intercepts
        return scores


def fit_embedding(encode: Encode) -> dict[str, NDArray[Any]]:
    """The weights of a logistic regression on the embeddings of the English examples, as they are stored."""
    from sklearn.linear_model import LogisticRegression

    texts, intents = _labelled("en")
    model = LogisticRegression(C=_EMBEDDING_C, max_iter=1_000)
    model.fit(encode(texts), intents)
    return {
        "coefficients": model.coef_.astype(np.float16),
        "intercepts": model.intercept_.astype(np.float32),
        "probe": encode([_PROBE])[0].astype(np.float16),
        "digest": np.array(examples_digest()),
    }


class IntentClassifier:
    """The intent of messages in three languages.

    Parameters
    ----------
    encode : callable
        Embeds n texts; the result has shape (n, dimensions).
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._ngrams: dict[str, _NgramClassifier] = {}
        self._embedding: _EmbeddingClassifier | None = None

    def classify(self, message: str, prior: Mapping[str, float] | None = None) -> Intent:
        """The intent of a message that `normalise` returned.

        Parameters
        ----------
        prior : mapping, optional
            By intent, how much likelier than usual it is in this situation; 1 for those left out.
        """
        language = language_of(message) or LANGUAGES[0]
        if language not in self._ngrams:
            self._ngrams[language] = _NgramClassifier(language)
        ngrams = self._ngrams[language]
        scores = ngrams.scores(message)
        if language == LANGUAGES[0]:
            self._embedding = self._embedding or _EmbeddingClassifier(self._encode)
            scores = scores + _EMBEDDING_WEIGHT * self._embedding.scores(message)
        shares = np.exp((scores - scores.max()) / _TEMPERATURE[language])
        if prior:
            shares *= [prior.get(name, 1.0) for name in ngrams.names]
        shares /= shares.sum()
        second, first = np.argsort(shares)[-2:]
        return Intent(ngrams.names[first], float(shares[first]), float(shares[first] - shares[second]))


def main() -> None:
    """Write the weights of the embedding's classifier, after the English examples were changed."""
    from agent.core.settings import settings
    from agent.pipeline.context import AppContext

    context = AppContext(settings())
    weights = fit_embedding(context.embedder().encode)
    with as_file(files("agent.chat") / "phrases" / _WEIGHTS) as path:
        np.savez_compressed(path, **weights)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
