"""An adapter for `ollama run`: fitted to a source's cases, and measured on cases that it was not fitted to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agent.core.progress import Progress
from agent.training.kinds import folds_of_kinds, stratified_folds
from agent.training.ollama_answers import Figures
from agent.training.ollama_cases import MIN_CASES, TrialCases
from agent.training.ollama_forms import FewShotPrompt, Form, few_shot_prompt
from agent.training.ollama_probe import Probe, balanced_accuracy
from agent.training.ollama_trial import ANSWER_TOKENS, Choice
from llm.llamacpp.activations import Activation, ActivationReader
from llm.llamacpp.adapter import adapter_file
from llm.llamacpp.chat_template import ChatTemplate
from llm.llamacpp.engine import Engine
from llm.llamacpp.generation import Options, Step, answer
from llm.llamacpp.gguf import Weights
from retrieval.arrays import Floats, Ints

FORM = Form("unless", 3)
# cases of each label whose whole answers are measured, and calls below which nothing can be
_ANSWERED = 24
ANSWER_CALLS = 2 * _ANSWERED
FEWEST_CALLS = ANSWER_CALLS + 2 * MIN_CASES
_FOLDS, _ANSWER_FOLDS, _SEED = 5, 3, 20_26


@dataclass(frozen=True)
class LocalModel:
    """A .gguf file, and how it is run."""

    path: Path
    context_tokens: int
    threads: int | None = None


class AdapterTrial:
    """Fits an adapter to a source's cases, and measures it.

    Parameters
    ----------
    model : LocalModel
    brief : str
    cases : TrialCases
        At least `MIN_CASES` of each label.
    progress : callable, optional
        Takes what is being done, how much of it is done, and how much there is to do.
    """

    def __init__(self, model: LocalModel, brief: str, cases: TrialCases, progress: Progress | None = None) -> None:
        self._model, self._brief, self._cases = model, brief, cases
        self._progress = progress or (lambda task, done, total: None)
        self._weights = Weights(model.path)

    def choose(self) -> Choice:
        """The adapter with its figures; where words that it quotes are not all in the records, it gives no reasons.

        Raises
        ------
        ModelFailure
            The model has no layer that an adapter can be fitted to, or its context is too short.
        """
        prompt = few_shot_prompt(self._brief, {False: self._cases.examples}, FORM)
        kinds = folds_of_kinds(self._cases.kinds, self._cases.anomalous, _FOLDS)
        by_template = stratified_folds(self._cases.anomalous, _FOLDS, _SEED)
        activations, elsewhere = self._read(prompt)
        probe = Probe(activations, self._cases.anomalous, by_template if kinds is None else kinds, elsewhere)
        figures, form, why = self._measure(prompt, probe), FORM, ""
        if figures.true_quotes < figures.quotes:
            form, figures = replace(FORM, quoting=False), figures.without_reasons()
        if kinds is not None:
            new = balanced_accuracy(probe.held_out(kinds), self._cases.anomalous)
            why = f"balanced accuracy {new:.2f} on cases of kinds that it was not fitted to"
        return Choice(form, figures, why, self._file(probe, np.arange(len(self._cases.texts))), prompt)

    def _read(self, prompt: FewShotPrompt) -> tuple[list[Activation], Floats]:
        """Of each case, and within replies: those of the prompt, shape (tokens, inner width)."""
        reader = ActivationReader(
            self._weights,
            ("anomalous", "normal"),
            context_tokens=self._model.context_tokens,
            threads=self._model.threads,
        )
        try:
            read = list[Activation]()
            for text in self._cases.texts:
                read.append(reader.read(prompt.messages(text)))
                self._progress("reading the cases", len(read), len(self._cases.texts))
            examples = zip(prompt.turns[::2], prompt.turns[1::2], strict=True)
            replies = [reader.read_reply(prompt.messages(text), reply) for (_, text), (_, reply) in examples]
            return read, np.concatenate(replies).astype(float)
        finally:
            reader.close()

    def _measure(self, prompt: FewShotPrompt, probe: Probe) -> Figures:
        """The figures of whole answers to cases that an adapter was not fitted to, by turns."""
        figures, chosen = Figures(), self._answered()
        folds = stratified_folds(self._cases.anomalous, _ANSWER_FOLDS, _SEED)
        for fold in range(_ANSWER_FOLDS):
            fitted = np.flatnonzero(folds != fold)
            known = set(self._cases.kinds[fitted].tolist())
            with self._answering(prompt, self._file(probe, fitted)) as reply:
                for i in (i for i in chosen if folds[i] == fold):
                    text, new_kind = self._cases.texts[i], int(self._cases.kinds[i]) not in known
                    figures.add(text, bool(self._cases.anomalous[i]), new_kind, reply(text))
                    self._progress("measuring the adapter", figures.count, len(chosen))
        return figures

    def _answered(self) -> list[int]:
        """Places of the cases whose whole answers are measured."""
        random = np.random.default_rng(_SEED)
        of_label = [np.flatnonzero(self._cases.anomalous == label) for label in (True, False)]
        return [int(i) for places in of_label for i in random.permutation(places)[:_ANSWERED]]

    def _file(self, probe: Probe, places: Ints) -> bytes:
        name = f"blk.{self._weights.layers - 1}.ffn_down.weight"
        return adapter_file(self._weights.architecture, {name: probe.adapter(places)})

    @contextmanager
    def _answering(self, prompt: FewShotPrompt, adapter: bytes) -> Iterator[Callable[[str], str]]:
        """What the model with an adapter replies to a record."""
        tokens, threads = self._model.context_tokens, self._model.threads
        engine = Engine(self._weights, context_tokens=tokens, threads=threads)
        template = ChatTemplate(self._weights)

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "adapter.gguf"
            file.write_bytes(adapter)
            options = Options(ANSWER_TOKENS, adapter=file)

            def reply(record: str) -> str:
                tokens = template.prompt(prompt.messages(record), few_shot=True)
                steps = answer(engine, self._weights, tokens, options, lambda: False)
                return "".join(step.text for step in steps if isinstance(step, Step))

            try:
                yield reply
            finally:
                engine.close()
