"""Export of a source as an Ollama model: its brief and its most representative cases, used without Precedent."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import UnknownSource, UsageError
from agent.core.prompts import render
from agent.detectors.language import NO_BRIEF
from llm.errors import ModelFailure
from llm.llamacpp.gguf import Weights
from llm.ollama.modelfile import Family, Modelfile, family_of
from retrieval.casebook import Casebook, StoredCase
from retrieval.text.prompt_injection import remove_injections

_EACH = 4
_SAMPLE = 2_000
_SEED = 20_26
_CHARS = 240
_PHRASE = 3
_CONTEXT = 4096
_WORD = re.compile(r"[^\W\d_][\w-]+")
_GENERAL = (
    ("worker 7 copied file 31 to the archive", "normal", "copied file"),
    ("worker 7 lost file 31: checksum error", "anomalous", "checksum error"),
)
# small models answer with the word of the prompt or a synonym
_SURE = {
    "certainly": ("certainly", "definitely", "surely", "clearly", "certain"),
    "probably": ("probably", "likely", "probable"),
    "possibly": ("possibly", "perhaps", "maybe", "possible"),
}
_MEANS = {word: sure for sure, words in _SURE.items() for word in words}
_FORM = re.compile(rf"\s*[\"'*`]*(?P<label>normal|anomalous)\b\W+(?P<sure>{'|'.join(_MEANS)})\b", re.IGNORECASE)
_README = """# {name}

Judges records of {source}. On any machine with Ollama:

    ollama create {name} -f Modelfile
    ollama run {name} "a record"

The first line of the answer is `normal` or `anomalous` and how sure; the second says why. There is no casebook behind
it: for verdicts by precedent, with calibrated probabilities, run Precedent itself.
"""


def parsed(answer: str) -> tuple[str, str] | None:
    """Label and certainty from the first line of an exported model's answer; None if it has another form.

    >>> parsed("anomalous, probably\\nReason: “kernel panic” tells of …")
    ('anomalous', 'probably')
    """
    found = _FORM.match(answer.lstrip().partition("\n")[0])
    return (found["label"].lower(), _MEANS[found["sure"].lower()]) if found else None


def compose(casebook: Casebook | None, source: str | None, weights: str, family: Family | None) -> Modelfile:
    """The Modelfile of a source, or a general one.

    Parameters
    ----------
    casebook : Casebook or None
    source : str or None
        None for a general Modelfile.
    weights : str
        A model of the Ollama server, or the path of a .gguf file.
    family : Family or None
        The chat template; needed with a .gguf file.

    Raises
    ------
    UnknownSource
    """
    brief, examples = NO_BRIEF, list(_GENERAL)
    if casebook is not None and source is not None:
        row = casebook.source(source)
        if row is None:
            raise UnknownSource(source, casebook.names())
        brief = row.brief or NO_BRIEF
        examples = representative_cases(casebook, source) or examples
    turns = []
    for text, label, words in examples:
        turns += [("user", text), ("assistant", render("ollama_answer", label=label, words=words))]
    numbers = {"temperature": 0, "seed": 0, "num_ctx": _CONTEXT, "num_predict": 80}
    return Modelfile(weights, render("ollama_system", brief=brief), family, numbers, tuple(turns))


def of_gguf(path: Path) -> Family:
    """The family of a .gguf file's chat template.

    Raises
    ------
    UsageError
        There is no such file, it is not a model, or its template is unknown.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    try:
        return family_of(Weights(path, vocabulary_only=True).chat_template, path.name)
    except ModelFailure as error:
        raise UsageError(str(error)) from error


def export(modelfile: Modelfile, folder: Path, name: str, source: str | None) -> None:
    """Write a Modelfile and a README to ``folder``, with a copy of the weights if they are a file.

    Raises
    ------
    UsageError
        The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if modelfile.family:
            weights = Path(modelfile.source)
            shutil.copyfile(weights, folder / weights.name)
            modelfile = replace(modelfile, source=f"./{weights.name}")
        comment = f"ollama create {name} -f Modelfile && ollama run {name}"
        (folder / "Modelfile").write_text(modelfile.render(comment), encoding="utf-8")
        readme = _README.format(name=name, source=f"the source {source}" if source else "any source")
        (folder / "README.md").write_text(readme, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error}") from error


def representative_cases(casebook: Casebook, name: str) -> list[tuple[str, str, str]]:
    """Up to four cases of each label that represent the others best, in turn.

    Chosen by greedy facility location over the templates, weighted by the root of their number of cases
    (Nemhauser et al. 1978).

    Returns
    -------
    list of (text, label, deciding words)
    """
    row = casebook.source(name)
    assert row is not None
    templates = casebook.by_template(name)
    by_key = {key: case for key, (case, _) in templates.items()}
    normal = Counter(word for case in by_key.values() if case.label == "normal" for word in set(_words(case)))
    chosen: dict[str, list[tuple[str, str, str]]] = {}
    for label in ("normal", "anomalous"):
        keys, vectors = casebook.matrix(row, label)
        weights = np.array([templates[key, label][1] for key in keys], dtype=np.float64)
        chosen[label] = [
            (_text(case), label, _deciding(case, normal, label))
            for case in (by_key[keys[i], label] for i in _medoids(vectors, np.sqrt(weights)))
        ]
    pairs = [chosen[label][i : i + 1] for i in range(_EACH) for label in ("normal", "anomalous")]
    return [case for pair in pairs for case in pair]


def _medoids(vectors: NDArray[np.float32], weights: NDArray[np.float64]) -> list[int]:
    """Indices of up to four of the ``vectors``, shape (n, dimensions), by greedy facility location."""
    places = np.arange(len(vectors))
    if len(places) > _SAMPLE:
        places = np.sort(np.random.default_rng(_SEED).choice(places, _SAMPLE, replace=False))
    similar = vectors[places] @ vectors[places].T
    best = np.full(len(places), -1.0)
    chosen: list[int] = []
    for _ in range(min(_EACH, len(places))):
        gains = np.maximum(similar - best, 0) @ weights[places]
        gains[chosen] = -1
        chosen.append(int(np.argmax(gains)))
        best = np.maximum(best, similar[chosen[-1]])
    return [int(places[i]) for i in chosen]


def _text(case: StoredCase) -> str:
    whole = case.text or " ".join(f"{name} is {value}" for name, value in case.fields.items()) or " ".join(case.events)
    return " ".join(remove_injections(whole).split())[:_CHARS]


def _words(case: StoredCase) -> list[str]:
    return _WORD.findall(_text(case))


def _deciding(case: StoredCase, normal: Mapping[str, int], label: str) -> str:
    """Up to three words in a row: rarest in normal templates for an anomalous case, commonest for a normal one."""
    words: Sequence[str] = _words(case)
    if not words:
        return _text(case)[:40]
    sign = 1 if label == "anomalous" else -1
    starts = range(max(1, len(words) - _PHRASE + 1))
    start = min(starts, key=lambda i: sign * sum(normal[word] for word in words[i : i + _PHRASE]))
    return " ".join(words[start : start + _PHRASE])
