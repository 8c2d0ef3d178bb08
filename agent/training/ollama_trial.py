"""The trial of a model for `ollama run`: which form of its prompt is best on cases that are not in the prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.core.progress import Progress
from agent.training.ollama_answers import Figures, parsed
from agent.training.ollama_cases import MIN_CASES, HeldOut, Round, SourceCases
from agent.training.ollama_forms import FewShotPrompt, Form, few_shot_prompt
from agent.training.prompt_selection import roc_auc
from llm.base import ChatBackend
from llm.errors import NoAnswer, NoLogProbabilities
from retrieval.types import LABELS

# The first one is taken where nothing can be tried. With a good brief few cases rank records as well as many do; what
# differs by source is how far the model leans to *anomalous*: the less, the more normal cases there are for each
# anomalous one, and the more these are like anomalous ones
FORMS = (
    Form("unless", 2, normals=4, contrasting=True),
    Form("unless", 1),
    Form("unless", 1, last="anomalous"),
    Form("unless", 1, normals=3, contrasting=True),
    Form("unless", 1, normals=8, contrasting=True),
    Form("unless", 3, normals=4, contrasting=True),
    Form("unless", 3, normals=4),
    Form("review", 1, normals=3),
)
ANSWER_TOKENS = 60
# forms that are tried on all cases of the choice, after a third of them
_FINALISTS, _FIRST_SHARE = 2, 1 / 3
# cases of each label that are tried for the choice, and as many for its figures, at most
_MOST_TRIED = 24


@dataclass(frozen=True)
class Choice:
    """A form, and its figures; None if none was tried, for the reason ``why``.

    ``adapter`` is the file of an adapter, if there is one, and ``prompt`` the prompt that it was fitted with; ``why``
    then says how good it is on other kinds of records.
    """

    form: Form
    figures: Figures | None
    why: str = ""
    adapter: bytes | None = None
    prompt: FewShotPrompt | None = None


def cases_within(budget: int) -> int:
    """How many cases of each label can be tried for the choice, and as many for its figures, with so many calls."""
    calls = len(FORMS) * _FIRST_SHARE + _FINALISTS * (1 - _FIRST_SHARE) + 1
    return min(_MOST_TRIED, int(budget / (2 * calls)))


def untried(counted: Mapping[str, int], enough_calls: bool, budget: int) -> Choice:
    """The usual form, and why none was tried; ``counted`` are the source's templates by label."""
    if not enough_calls:
        return Choice(FORMS[0], None, f"{budget} calls (--budget) are too few")
    counts = " and ".join(f"{counted[label]} {label}" for label in LABELS)
    why = f"the source has {counts} kinds of records, and {MIN_CASES} of each, not all alike, are needed"
    return Choice(FORMS[0], None, why)


class Trial:
    """Tries forms of a source's prompt on a language model.

    Parameters
    ----------
    model : ChatBackend
    brief : str
    cases : SourceCases
    progress : callable, optional
        Takes what is being done, how much of it is done, and how much there is to do.
    """

    def __init__(self, model: ChatBackend, brief: str, cases: SourceCases, progress: Progress | None = None) -> None:
        self._model, self._brief, self._cases = model, brief, cases
        self._progress = progress or (lambda task, done, total: None)
        self._by_text = False
        self._done = 0

    def choose(self) -> Choice:
        """The best form; where the words that it quotes are not all in the records, one that quotes nothing.

        Raises
        ------
        ModelFailure
            The model does not answer.
        """
        form = self._best()
        figures = self.measure(form)
        if figures.true_quotes < figures.quotes:
            form = replace(form, quoting=False)
            figures = self.measure(form)
        return Choice(form, figures)

    def measure(self, form: Form) -> Figures:
        """The figures of whole answers to the cases that the choice did not see."""
        figures = Figures()
        total = sum(len(each.held_out) for each in self._cases.confirmation)
        for prompt, case in self._pairs(self._cases.confirmation, form):
            answer = "".join(self._model.stream(prompt.messages(case.text), ANSWER_TOKENS))
            figures.add(case.text, case.anomalous, case.new_kind, answer)
            self._progress("measuring the best prompt", figures.count, total)
        return figures

    def _best(self) -> Form:
        """The form with the best balanced accuracy, of equals the best ranking one."""
        parts = [_part(self._cases.choice, third) for third in (True, False)]
        sizes = [sum(len(each.held_out) for each in part) for part in parts]
        self._done, calls = 0, len(FORMS) * sizes[0] + _FINALISTS * sizes[1]
        answers = {form: self._answers(parts[0], form, calls) for form in FORMS}
        finalists = sorted(FORMS, key=lambda form: _merit(answers[form]), reverse=True)[:_FINALISTS]
        for form in finalists:
            answers[form] += self._answers(parts[1], form, calls)
        return max(finalists, key=lambda form: _merit(answers[form]))

    def _answers(self, rounds: Sequence[Round], form: Form, calls: int) -> list[tuple[float, bool]]:
        """(log-odds, whether the case is anomalous) of each held-out case."""
        out = []
        for prompt, case in self._pairs(rounds, form):
            out.append((self._log_odds(prompt, case.text), case.anomalous))
            self._done += 1
            self._progress("trying prompts", self._done, calls)
        return out

    def _pairs(self, rounds: Sequence[Round], form: Form) -> Iterator[tuple[FewShotPrompt, HeldOut]]:
        for each in rounds:
            prompt = few_shot_prompt(self._brief, each.examples, form)
            for case in each.held_out:
                yield prompt, case

    def _log_odds(self, prompt: FewShotPrompt, record: str) -> float:
        """Of *anomalous*; 0, which is no answer, if the reply begins with neither label.

        A server without log-probabilities is asked for text, and 1 or -1 is read from it.
        """
        messages = prompt.messages(record)
        if not self._by_text:
            try:
                answers = self._model.answer_log_probabilities(messages, ("anomalous", "normal"))
                return answers["anomalous"] - answers["normal"]
            except NoAnswer:
                return 0.0
            except NoLogProbabilities:
                self._by_text = True
        found = parsed("".join(self._model.stream(messages, 8)))
        return 0.0 if found is None else 1.0 if found[0] == "anomalous" else -1.0


def _part(rounds: Sequence[Round], first: bool) -> list[Round]:
    """The first third of each round's cases, or the rest."""
    cuts = [math.ceil(len(each.held_out) * _FIRST_SHARE) for each in rounds]
    return [
        replace(each, held_out=each.held_out[:cut] if first else each.held_out[cut:])
        for each, cut in zip(rounds, cuts, strict=True)
    ]


def _merit(answers: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """Balanced accuracy and area under the ROC curve."""
    shares = [
        sum((z > 0) if label else (z < 0) for z, anomalous in answers if anomalous is label)
        / max(1, sum(anomalous is label for _, anomalous in answers))
        for label in (True, False)
    ]
    return sum(shares) / 2, roc_auc([z for z, _ in answers], [anomalous for _, anomalous in answers]) or 0.5
