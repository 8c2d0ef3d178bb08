"""Export of a source as an Ollama model: its brief and its most representative cases, used without Precedent."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent.core.errors import UnknownSource, UsageError
from agent.core.progress import Progress
from agent.core.writing import writing
from agent.training.ollama_adapter import ANSWER_CALLS, FEWEST_CALLS, AdapterTrial, LocalModel
from agent.training.ollama_answers import parsed
from agent.training.ollama_cases import MIN_CASES, SourceCases, source_cases, trial_cases
from agent.training.ollama_forms import few_shot_prompt, with_general
from agent.training.ollama_trial import FORMS, Choice, Trial, cases_within, untried
from llm.base import ChatBackend
from llm.errors import ModelFailure
from llm.llamacpp.adapter import ARCHITECTURES
from llm.llamacpp.gguf import Weights
from llm.ollama.modelfile import ADAPTER_FILE, Family, Modelfile, family_of
from retrieval.casebook import Casebook, SourceSnapshot

__all__ = ["LocalModel", "adaptable", "adapted", "compose", "export", "of_gguf", "parsed", "tried"]

CONTEXT_TOKENS = 4096
_REASON = "Reason:"
_README = """# {name}

Judges records of {source}. On any machine with Ollama:

    ollama create {name} -f Modelfile
    ollama run {name} "a record"

The first line of the answer is `normal` or `anomalous` and how sure; the second, if there is one, says why. {figures}

There is no casebook behind it: for verdicts by precedent, with calibrated probabilities, run Precedent itself.
"""


def compose(
    casebook: Casebook | None, source: str | None, weights: str, family: Family | None, choice: Choice | None = None
) -> Modelfile:
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
    choice : Choice, optional
        The form of the prompt that `tried` chose.

    Raises
    ------
    UnknownSource
    """
    brief, cases = _of_source(casebook, source)
    choice = choice or Choice(FORMS[0], None)
    prompt = choice.prompt or few_shot_prompt(brief, cases.examples, choice.form)
    # the prompt is the one that the adapter was fitted with, so that a reason is cut off
    stop = (_REASON,) if choice.adapter and not choice.form.quoting else ()
    numbers = {"temperature": 0, "seed": 0, "num_ctx": CONTEXT_TOKENS, "num_predict": 80}
    return Modelfile(weights, prompt.system, family, numbers, prompt.turns, choice.adapter, stop)


def tried(
    casebook: Casebook, source: str, model: Callable[[], ChatBackend], budget: int, progress: Progress | None = None
) -> Choice:
    """The best form of a source's prompt for a model, see `Trial.choose`.

    Parameters
    ----------
    casebook : Casebook
    source : str
    model : callable
        Returns the model; it is not called if there is nothing to try it on.
    budget : int
        The most calls.
    progress : callable, optional

    Raises
    ------
    UnknownSource
    ModelFailure
        The model does not answer.
    """
    brief, cases = _of_source(casebook, source, cases_within(budget))
    if not cases.choice:
        return untried(cases.counts, cases_within(budget) >= MIN_CASES, budget)
    opened = model()
    try:
        return Trial(opened, brief, cases, progress).choose()
    finally:
        opened.close()


def adapted(
    casebook: Casebook, source: str, model: LocalModel, budget: int, progress: Progress | None = None
) -> Choice:
    """An adapter of a model's weights to a source's cases, see `AdapterTrial`.

    Parameters
    ----------
    casebook : Casebook
    source : str
    model : LocalModel
        It is not loaded if there are too few cases.
    budget : int
        The most calls.
    progress : callable, optional

    Raises
    ------
    UnknownSource
    ModelFailure
        The model has no layer that an adapter can be fitted to.
    """
    row = _row(casebook, source)
    cases = trial_cases(casebook, row, max(0, budget - ANSWER_CALLS))
    fewest = min(int(cases.anomalous.sum()), int((~cases.anomalous).sum()))
    if budget < FEWEST_CALLS or fewest < MIN_CASES:
        return untried(cases.counts, budget >= FEWEST_CALLS, budget)
    return AdapterTrial(model, row.brief, cases, progress).choose()


def _of_source(casebook: Casebook | None, source: str | None, each: int = 0) -> tuple[str, SourceCases]:
    """The brief and the cases of a source; none of either without a source."""
    if casebook is None or source is None:
        general = with_general({})
        return "", SourceCases({False: general, True: general}, {}, (), ())
    row = _row(casebook, source)
    return row.brief, source_cases(casebook, row, each)


def _row(casebook: Casebook, source: str) -> SourceSnapshot:
    row = casebook.source(source)
    if row is None:
        raise UnknownSource(source, casebook.names())
    return row


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


def adaptable(path: Path) -> bool:
    """Whether an adapter can be fitted to the model of a .gguf file."""
    return Weights(path, vocabulary_only=True).architecture in ARCHITECTURES


def export(modelfile: Modelfile, folder: Path, name: str, source: str | None, figures: str = "") -> None:
    """Write a Modelfile and a README to ``folder``, with the adapter, and a copy of the weights if they are a file.

    Raises
    ------
    UsageError
        The folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if modelfile.family:
            weights = Path(modelfile.source)
            shutil.copyfile(weights, folder / weights.name)
            modelfile = replace(modelfile, source=f"./{weights.name}")
        comment = f"ollama create {name} -f Modelfile && ollama run {name}"
        if modelfile.adapter:
            (folder / ADAPTER_FILE).write_bytes(modelfile.adapter)
        (folder / "Modelfile").write_text(modelfile.render(comment), encoding="utf-8")
        readme = _README.format(name=name, source=f"the source {source}" if source else "any source", figures=figures)
        (folder / "README.md").write_text(readme, encoding="utf-8")
