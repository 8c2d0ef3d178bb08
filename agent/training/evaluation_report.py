"""An evaluation as one HTML page: its figures, what was confused, how well calibrated, and which records were wrong."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent.core.html_page import write_page
from agent.core.records import LABELS, Label, Verdict, VerdictLabel
from agent.core.terminal import plural
from agent.pipeline.service import judge_many

if TYPE_CHECKING:
    from agent.pipeline.context import AppContext
    from agent.pipeline.runnable import VerdictRunnable
    from agent.training.evaluation import Evaluation

_BINS, _MOST_ERRORS = 10, 200
ANSWERS: tuple[VerdictLabel, ...] = ("normal", "unsure", "anomalous")


class Wrong(NamedTuple):
    """A verdict that differs from the record's label; ``margin``: how far it is on the wrong side, in probability."""

    margin: float
    number: int
    label: Label
    verdict: Verdict


@dataclass
class CalibrationBin:
    """Verdicts whose probabilities lie between ``low`` and ``high``."""

    low: float
    high: float
    n: int = 0
    probabilities: float = 0.0
    anomalous: int = 0

    @property
    def mean(self) -> float:
        """The mean probability."""
        return self.probabilities / self.n

    @property
    def observed(self) -> float:
        """The share of anomalous records."""
        return self.anomalous / self.n


@dataclass
class EvaluationDetails:
    """What a report shows besides the figures, collected verdict by verdict.

    Attributes
    ----------
    counts : Counter of (label, verdict's label)
    bins : list of CalibrationBin
    wrong : list of Wrong
        The errors that were farthest on the wrong side, as a heap.
    errors : int
        How many there are: decided verdicts of the other label, and unsure ones on the wrong side of the threshold.
    """

    counts: Counter[tuple[Label, VerdictLabel]] = field(default_factory=Counter)
    bins: list[CalibrationBin] = field(
        default_factory=lambda: [CalibrationBin(i / _BINS, (i + 1) / _BINS) for i in range(_BINS)]
    )
    wrong: list[Wrong] = field(default_factory=list)
    errors: int = 0

    def add(self, verdict: Verdict, label: Label) -> None:
        """Add a verdict and its record's label."""
        self.counts[label, verdict.label] += 1
        part = self.bins[min(int(verdict.probability * _BINS), _BINS - 1)]
        part.n += 1
        part.probabilities += verdict.probability
        part.anomalous += label == "anomalous"
        if verdict.leans == label:
            return
        self.errors += 1
        margin = verdict.probability if label == "normal" else 1 - verdict.probability
        # of decided verdicts and unsure ones the decided come first
        error = Wrong(margin + (verdict.label != "unsure"), -self.errors, label, verdict)
        if len(self.wrong) < _MOST_ERRORS:
            heapq.heappush(self.wrong, error)
        else:
            heapq.heappushpop(self.wrong, error)

    def ranked(self) -> list[Wrong]:
        """The errors, those that are farthest on the wrong side first."""
        return sorted(self.wrong, reverse=True)

    def explain(self, context: AppContext, chain: VerdictRunnable, source: str) -> None:
        """Give the verdicts that are listed their reasons; none is stored."""
        records = [error.verdict.record for error in self.wrong]
        answers = judge_many(context, chain, records, source, "facts", keep=False)
        self.wrong = [
            error._replace(verdict=answer) if isinstance(answer, Verdict) else error
            for error, answer in zip(self.wrong, answers, strict=True)
        ]


def write_evaluation(
    path: Path, source: str, file: str, figures: Evaluation, meanings: dict[str, str], details: EvaluationDetails
) -> None:
    """Write the page.

    Parameters
    ----------
    path, source, file
        Where it is written, and what was evaluated.
    figures, meanings
        The figures, and what each means.
    details
        What else was collected.

    Raises
    ------
    UsageError
        The page cannot be written.
    """
    write_page(
        Path(__file__).with_name("evaluation.html.j2"),
        path,
        source=source,
        file=file,
        figures={name: _shown(value) for name, value in figures.model_dump().items()},
        meanings=meanings,
        learned=figures.learned,
        labels=LABELS,
        answers=ANSWERS,
        counts=details.counts,
        bins=[part for part in details.bins if part.n],
        errors=details.ranked(),
        more=details.errors - len(details.wrong),
        reason=lambda verdict: "; ".join(_facts(verdict)),
        plural=plural,
    )


def _shown(value: object) -> str:
    return "not defined" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _facts(verdict: Verdict) -> Sequence[str]:
    return verdict.facts or ([verdict.explanation] if verdict.explanation else [])
