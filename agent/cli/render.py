"""Output of the commands: tables and text for people, JSON lines and CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.options import with_hint
from agent.cli.reading import reading_report
from agent.core.errors import NEW_SOURCE_HINT
from agent.core.records import LABELS, Verdict
from agent.core.spreadsheet import neutralised
from agent.core.terminal import (
    STYLES,
    console,
    escape_controls,
    escape_json,
    open_output,
    plural,
    print_line,
    rich_text,
    truncate,
)
from agent.core.writing import writing

if TYPE_CHECKING:
    from langchain_core.runnables.history import RunnableWithMessageHistory

    from agent.cli.doctor import Finding
    from agent.data.readers import ParsedRow
    from agent.training.active_learning import Candidate
    from agent.training.cases import CaseView
    from agent.training.evaluation import Evaluation
    from agent.training.learn import LearnResult
    from retrieval.casebook import SourceSnapshot


_MAX_ROWS = 25
_MAX_REASON_CHARS = 200
# from this number of verdicts on, the table shows only those that are not normal
_GROUPED_FROM = 40
# columns of a terminal from which on precedents are shown; of a file's name and a line
_WIDE, _PLACE_WIDTH = 120, 40
_CSV_COLUMNS = ("id", "source", "file", "line", "label", "probability", "reason", "explanation", "degraded", "text")


@contextmanager
def writer(to: str, output: Path | None, *, csv_raw: bool = False) -> Iterator[Callable[[Verdict], None]]:
    """Yield a function that writes verdicts: JSON lines or CSV one by one, a table at the end.

    ``csv_raw``: whether cells of CSV that a spreadsheet would compute stay as they are.
    """
    stream: Any = sys.stdout if output is None else open_output(output)
    if output is None:
        stream.reconfigure(encoding="utf-8")
    rows = csv.DictWriter(stream, _CSV_COLUMNS)
    if to == "csv":
        with writing(output):
            rows.writeheader()
    counts: Counter[str] = Counter()
    verdicts: list[Verdict] = []

    def write(verdict: Verdict) -> None:
        if to == "jsonl":
            stream.write(f"{escape_json(verdict.to_json(), stream)}\n")
        elif to == "csv":
            cells = _flat(verdict)
            if stream.isatty():
                cells = {name: escape_controls(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}
            rows.writerow(cells if csv_raw else {name: _safe(cell) for name, cell in cells.items()})
        else:
            verdicts.append(verdict)

    def write_now(verdict: Verdict) -> None:
        with writing(output):
            write(verdict)
            stream.flush()
        counts[verdict.label] += 1

    try:
        yield write_now
    finally:
        with writing(output), nullcontext() if output is None else stream:
            if to == "table":
                verdict_table(verdicts, stream)
            stream.flush()
        if output is not None:
            print(f"{_counts_line(counts)}; written to {escape_controls(str(output))}", file=sys.stderr)


def _counts_line(counts: Mapping[str, int]) -> str:
    return f"{plural(sum(counts.values()), 'record')}: " + ", ".join(f"{counts[label]:,} {label}" for label in STYLES)


def _safe(cell: Any) -> Any:
    return neutralised(cell) if isinstance(cell, str) else cell


def _flat(verdict: Verdict) -> dict[str, Any]:
    record = verdict.record
    values = verdict.model_dump(include={"id", "source", "label", "probability", "explanation"})
    return {
        **values,
        "file": record.file,
        "line": record.line,
        "reason": "; ".join(verdict.facts[:2]),
        "degraded": "; ".join(verdict.degraded),
        "text": record.text,
    }


def verdict_table(verdicts: Sequence[Verdict], stream: Any = None) -> None:
    """Write a table and the counts; of many verdicts, only the first anomalous or unsure one of each template."""
    from rich.table import Table

    screen = console(stream)
    if len(verdicts) < _GROUPED_FROM:
        rows = [(verdict, 1) for verdict in verdicts]
    elif verdicts[0].record.series is not None:
        # each window is another time
        rows = [(verdict, 1) for verdict in verdicts if verdict.label != "normal"]
    else:
        rows = _grouped([verdict for verdict in verdicts if verdict.label != "normal"])
    table = Table(show_lines=False, expand=screen.is_terminal, pad_edge=False)
    # ids are neither folded nor cut, so that they can be copied; on a narrow screen precedents are left out
    whole = max((len(verdict.id) for verdict, _ in rows), default=0)
    wide = screen.width >= _WIDE
    table.add_column("file:line, id", overflow="fold", min_width=whole, max_width=max(whole, _PLACE_WIDTH))
    for name, ratio in (("verdict", None), ("p", None), ("record and why", 12)):
        table.add_column(name, ratio=ratio, overflow="fold")
    if wide:
        table.add_column("precedents", ratio=4, overflow="fold")
    for verdict, count in rows[:_MAX_ROWS]:
        record = verdict.record
        text = rich_text(truncate(record.text, 120), "bold")
        if count > 1:
            text.append(f"  (and {count - 1:,} more like it)", style="dim")
        if verdict.explanation:
            text.append(
                "\n" + escape_controls(truncate(verdict.explanation.partition(": ")[2], _MAX_REASON_CHARS)), style="dim"
            )
        for reason in verdict.degraded:
            text.append(f"\nincomplete: {escape_controls(reason)}", style="yellow")
        precedents = rich_text("\n".join(f"{p.case_id} {p.label} {p.similarity:.2f}" for p in verdict.precedents[:3]))
        table.add_row(
            rich_text(f"{record.file or '-'}:{record.line or '-'}").append(f"\n{verdict.id}", style="dim"),
            rich_text(verdict.label, STYLES[verdict.label]),
            f"{verdict.probability:.2f}",
            text,
            *([precedents] if wide else []),
        )
    if rows:
        screen.print(table)
    screen.print(_counts_line(Counter(verdict.label for verdict in verdicts)))
    if len(rows) > _MAX_ROWS:
        more = plural(len(rows) - _MAX_ROWS, "more row")
        screen.print(f"{more}; `--to jsonl --output FILE` writes every verdict")


def _grouped(verdicts: Sequence[Verdict]) -> list[tuple[Verdict, int]]:
    """The first verdict of each label and masked text, and how many there are; the most probable first."""
    from retrieval.text.masking import mask

    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.label, mask(verdict.record.text)), []).append(verdict)
    return sorted(((group[0], len(group)) for group in groups.values()), key=lambda pair: -pair[0].probability)


def notes(row: ParsedRow) -> None:
    """Print on standard error what the reader changed in a record."""
    for note in row.notes:
        print(f"{row.record.file}:{row.record.line}: {escape_controls(note)}", file=sys.stderr)


def learned(result: LearnResult) -> None:
    """Print what `learn` did."""
    if result.report is not None:
        reading_report(result.report)
    read, added = plural(result.read, "record"), plural(result.added, "new case")
    others = result.read - result.added
    again = f"; {plural(others, 'other')} repeat{'s' * (others == 1)} these or earlier cases" if others else ""
    print_line(f"{read} read for source {result.source}: {added}{again}")
    if result.relabelled:
        changed = plural(result.relabelled, "case")
        print_line(f"{changed} of the same files had the other label before: only the new one holds")
    is_labelled = result.report is None or result.report.options.is_labelled
    for label in LABELS:
        if result.read and is_labelled and not result.labels[label]:
            print_line(f"no record is labelled {label}: are the values of --normal right?", "yellow")
    for note in result.notes[:10]:
        print(escape_controls(note), file=sys.stderr)
    if result.series_note:
        print_line(result.series_note)
    for note in result.case_notes:
        print_line(note, "yellow")
    if result.brief:
        origin = "brief, drafted by the language model" if result.brief_drafted else "brief"
        print_line(f"{origin}: {result.brief}")
        if result.brief_drafted:
            print_line(f"(edit it: precedent sources brief {result.source} TEXT)", "dim")
    if result.brief_rejected:
        print_line(f"no brief was given, and the language model's draft {result.brief_rejected}: not taken", "yellow")
        print_line(f"(write one: precedent sources brief {result.source} TEXT)", "dim")
    if result.language_note:
        print_line(result.language_note)
    if result.language_auc is not None:
        print_line(f"AUC of the language model alone: {result.language_auc:.2f} (1 separates all cases, 0.5 is chance)")
    if result.language_missing:
        print_line(f"learned without the language model: {with_hint(result.language_missing)}", "yellow")


MEANING = {
    "accuracy": "share of right labels; an unsure record counts by the threshold, here and in the next three",
    "precision": "share of anomalies among the records labelled anomalous",
    "recall": "share of the anomalies that are labelled so",
    "f1": "harmonic mean of precision and recall",
    "roc_auc": "how well probabilities rank anomalies before the rest: 1 perfectly, 0.5 by chance",
    "average_precision": "mean precision over all thresholds",
    "ece": "mean distance of probabilities from observed frequencies",
    "coverage": "share of records that are not unsure",
    "selective_error": "error among those",
    "llm_calls": "answers of the language model",
    "llm_changed": "labels that these changed",
    "vus_pr": "of the points of series: volume under the precision-recall surface (Paparrizos et al. 2022)",
    "point_f1": "of the points, without point adjustment: anomalous where most windows over them are",
    "event_f1": "of the ranges: found if one point is; a predicted range without a labelled point is a false alarm",
}


def figures(evaluation: Evaluation, as_json: bool) -> None:
    """Print the figures of `evaluate`."""
    if evaluation.learned:
        known = f"{evaluation.learned:,} of {plural(evaluation.n, 'record')}"
        print(f"{known} are cases of the source: the figures are too good", file=sys.stderr)
    if as_json:
        print(escape_json(evaluation.model_dump_json(), sys.stdout))
        return
    from rich.table import Table

    table = Table("figure", "value", "meaning")
    for name, value in evaluation.model_dump().items():
        shown = "not defined" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(name, shown, MEANING.get(name, ""))
    console().print(table)


def sources(rows: Sequence[SourceSnapshot]) -> None:
    """Print a table of the sources."""
    if not rows:
        print(f"no source yet: {NEW_SOURCE_HINT}")
        return
    from rich.table import Table

    table = Table("source", "normal", "anomalous", "casebook version", "brief")
    for row in rows:
        counts = (str(row.counts["normal"]), str(row.counts["anomalous"]))
        table.add_row(row.name, *counts, str(row.version), rich_text(row.brief[:100]))
    console().print(table)


def candidates(selected: Sequence[Candidate], source: str, as_json: bool) -> None:
    """Print which verdicts to correct first, and how."""
    if as_json:
        listed = json.dumps([candidate.model_dump(mode="json") for candidate in selected], ensure_ascii=False)
        print(escape_json(listed, sys.stdout))
        return
    if not selected:
        print(f"nothing to review: judge records first that are not cases yet (precedent judge FILE --source {source})")
        return
    from rich.table import Table

    table = Table(expand=console().is_terminal, pad_edge=False)
    # ids are neither folded nor cut, so that they can be copied
    whole = max(len(candidate.id) for candidate in selected)
    for name, ratio in (("id", None), ("file:line", 1), ("verdict", None), ("p", None), ("record", 3)):
        width = whole if name == "id" else None
        table.add_column(name, ratio=ratio, overflow="fold", no_wrap=ratio is None, min_width=width)
    for candidate in selected:
        record = candidate.record
        text = rich_text(truncate(record.text, 200))
        if candidate.alike > 1:
            text.append(f"  (and {candidate.alike - 1:,} more like it)", style="dim")
        table.add_row(
            rich_text(candidate.id),
            rich_text(f"{record.file or '-'}:{record.line or '-'}"),
            rich_text(candidate.label, STYLES[candidate.label]),
            f"{candidate.probability:.2f}",
            text,
        )
    console().print(table)
    print("Correct or confirm each: precedent correct ID normal|anomalous; then judge again.")


def cases(rows: Sequence[CaseView]) -> None:
    """Print a table of cases."""
    from rich.table import Table

    table = Table(expand=console().is_terminal, pad_edge=False)
    widths = {"id": max([len(str(case.case_id)) for case in rows], default=2), "label": 9, "given at": 10}
    for name, ratio in (("id", None), ("label", None), ("given by", 1), ("given at", None), ("record", 3)):
        table.add_column(name, ratio=ratio, overflow="fold", no_wrap=ratio is None, min_width=widths.get(name))
    for case in rows:
        label = rich_text(case.label, STYLES[case.label])
        given_at = f"{case.given_at:%Y-%m-%d}" if case.given_at else "-"
        text = rich_text(truncate(case.record.text, 200))
        table.add_row(str(case.case_id), label, rich_text(case.given_by), given_at, text)
    console().print(table)


def stream_text(pieces: Iterable[str]) -> str:
    """Print each piece when it arrives; returns all of them joined."""
    text = ""
    for piece in pieces:
        text += piece
        print(escape_controls(piece), end="", flush=True)
    return text


def findings(checks: Sequence[Finding]) -> None:
    """Print the findings of `doctor`."""
    for finding in checks:
        status, style = "ok", "green"
        if not finding.ok:
            status, style = ("missing", "red") if finding.required else ("absent", "")
        line = rich_text(f"{status:8}", style).append(f"{finding.name}: {escape_controls(finding.message)}")
        console().print(line, soft_wrap=True)


def converse(chat: RunnableWithMessageHistory, session: str) -> None:
    """Hold a conversation in the terminal, until end of input."""
    from agent.chat.commands import HELP

    interactive = sys.stdin.isatty()
    if interactive:
        print(HELP)
    while True:
        try:
            text = input("\n> " if interactive else "")
        except EOFError:
            return
        stream_text(chat.stream(text, {"configurable": {"session_id": session}}))
        print()
