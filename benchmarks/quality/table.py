"""The figures as Markdown: one section a task, seconds in a table of their own at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.quality.figures import Figures, mean
from benchmarks.quality.reach import REACH, holds
from benchmarks.quality.results import Result
from benchmarks.quality.tasks import TASKS

COLUMNS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "roc_auc": "AUC",
    "average_precision": "AP",
    "ece": "ECE",
    "coverage": "decided",
    "selective_error": "error among decided",
    "error_at_80": "error at 80 %",
}
_INTRODUCTION = """\
# Quality

Measured by `make bench-quality` (`python -m benchmarks.quality`) on public data sets with the same functions as the
commands: one file is learned, another judged. Means over the draws of a task, F1 with its smallest and largest value.

- *AUC* is the area under the ROC curve, *AP* average precision, *ECE* expected calibration error. *decided*: the share
  of records outside the source's unsure band. *error at 80 %*: the error among the 80 % most confident verdicts.
  Accuracy, precision, recall and F1 (of anomalous) take unsure records too, at the source's threshold.
- A signal *alone* ranks by its log-odds. The pipeline queries the language model only where it may change the label,
  and about records of new kinds; alone, it is queried on a seeded sample with equally many of both labels, weighted
  by their shares.
- *labels*: learned cases, in brackets the anomalous ones. *LLM calls*: distinct prompts while learning and judging,
  answered in this run or an earlier one.
- *holds*: all fused rank as well as each signal alone, on the records that have that signal (AUC, .002 allowed).
- *reach*: the targets of a task.
"""


def page(results: Sequence[Result], *, seconds: bool = True) -> str:
    """The whole page; without ``seconds`` it is the same whenever the same is measured."""
    drawn = [(result, mean(list(result.runs.values()))) for result in results if result.runs]
    parts = [_INTRODUCTION, _summary(drawn)]
    if len({result.code for result, _ in drawn}) > 1:
        parts.append("**These are results of different states of the code.**\n")
    parts += [_section(result, figures) for result, figures in drawn]
    if seconds:
        parts.append(_seconds(drawn))
    return "\n".join(parts)


def _summary(drawn: Iterable[tuple[Result, Figures]]) -> str:
    rows = []
    for result, figures in drawn:
        short = [f"{COLUMNS[one.figure]} {one.wanted}" for one in REACH[result.task] if not one.met(figures)]
        told = [_figure(figures["fused"][name]) for name in ("accuracy", "f1", "roc_auc", "ece")]
        rows.append([result.task, *told, holds(figures), "; ".join(short) or "nothing"])
    return _table(["task", "accuracy", "F1", "AUC", "ECE", "holds", "falls short of"], rows)


def _section(result: Result, figures: Figures) -> str:
    return f"## {result.task}\n\n{_told(result, figures)}\n\n{_table(_HEAD, _rows(result, figures))}"


_HEAD = ["", *COLUMNS.values(), "labels", "LLM calls"]


def _told(result: Result, figures: Figures) -> str:
    judged = f"{figures['fused']['n']:,.0f} judged, {figures['anomalous']:,.0f} of them anomalous"
    told = [TASKS[result.task].protocol]
    if result.limit:
        told.append(f"**Judged: only a seeded sample of at most {result.limit:,}.**")
    draws = f"mean of {len(result.runs)} draws" if len(result.runs) > 1 else "one draw"
    told.append(f"{judged}; {draws}; language model: `{result.model}`.")
    for name, said in {"unjudged": "could not be judged", "degraded": "verdicts were degraded"}.items():
        if figures[name]:
            told.append(f"**{figures[name]:g} {said}.**")
    return " ".join(told)


def _rows(result: Result, figures: Figures) -> list[list[str]]:
    fused = {name: _figure(figures["fused"][name]) for name in COLUMNS}
    f1 = [run["fused"]["f1"] for run in result.runs.values()]
    if len(f1) > 1:
        fused["f1"] += f" ({_figure(min(f1))}–{_figure(max(f1))})"
    labels = f"{figures['labels']:,.0f} ({figures['anomalous_labels']:,.0f})"
    rows = [["**all fused**", *fused.values(), labels, f"{figures['llm_calls']:,.0f}"]]
    for name, one in figures["signals"].items():
        records = "" if round(one["n"]) == round(figures["fused"]["n"]) else f", {one['n']:,.0f} records"
        rows.append([f"{name} alone{records}", *(_figure(one.get(column)) for column in COLUMNS), "", ""])
    for name, one in figures["baselines"].items():
        rows.append([name, *(_figure(one.get(column)) for column in COLUMNS), "", ""])
    rows.append(["holds", *(holds(figures) if column == "roc_auc" else "" for column in COLUMNS), "", ""])
    reach = {one.figure: f"{one.wanted}: {'yes' if one.met(figures) else '**no**'}" for one in REACH[result.task]}
    return [*rows, ["reach", *(reach.get(column, "") for column in COLUMNS), "", ""]]


def _seconds(drawn: Iterable[tuple[Result, Figures]]) -> str:
    rows = [
        [
            result.task,
            f"{figures['seconds']['learning']:.1f}",
            f"{figures['fused']['n'] / figures['seconds']['judging']:.1f}",
        ]
        for result, figures in drawn
    ]
    return (
        "## Time\n\nOn the machine of the run; answers of the language model from an earlier run are cached."
        f"\n\n{_table(['task', 'seconds to learn', 'records judged a second'], rows)}"
    )


def _figure(value: float | None) -> str:
    """Three digits; nothing where a figure is not defined."""
    return "" if value is None else f"{value:.3f}".replace("0.", ".", 1) if value < 1 else f"{value:.3f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    ruled = ["---" for _ in head]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ruled, *rows])
