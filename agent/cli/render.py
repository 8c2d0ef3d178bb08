"""What people see in a terminal, and what programs are given: tables, JSON lines, CSV, progress."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.core.records import Verdict
from agent.core.terminal import STYLES, console, escape_controls, open_output, print_line, rich_text, truncate

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from agent.chat.commands import ChatInput
    from agent.cli.doctor import Finding
    from agent.data.readers import ParsedRow
    from agent.training.active_learning import Candidate
    from agent.training.drift import Drift
    from agent.training.evaluation import Evaluation
    from agent.training.learn import LearnResult
    from retrieval.casebook import SourceRow


_MOST_ROWS = 25
_WHY_CHARS = 200
_ALL_BELOW = 40
_CSV_COLUMNS = ("id", "source", "file", "line", "label", "probability", "explanation", "degraded", "text")


@contextmanager
def writer(to: str, output: Path | None) -> Iterator[Callable[[Verdict], None]]:
    """Writes verdicts as they come: JSON lines or CSV at once, a table at the end."""
    stream: Any = sys.stdout
    if output is not None:
        stream = open_output(output)
    else:
        stream.reconfigure(encoding="utf-8")
    counts: Counter[str] = Counter()

    def counting(write: Callable[[Verdict], Any]) -> Callable[[Verdict], None]:
        def counted(verdict: Verdict) -> None:
            write(verdict)
            counts[verdict.label] += 1

        return counted

    try:
        if to == "jsonl":
            yield counting(lambda verdict: _line(stream, verdict.to_json()))
        elif to == "csv":
            rows = csv.DictWriter(stream, _CSV_COLUMNS)
            rows.writeheader()
            yield counting(lambda verdict: rows.writerow(_flat(verdict)))
        else:
            seen: list[Verdict] = []
            try:
                yield counting(seen.append)
            finally:
                verdict_table(seen, stream)
    finally:
        stream.flush()
        if output is not None:
            stream.close()
            told = ", ".join(f"{counts[label]} {label}" for label in STYLES)
            print(f"{counts.total()} records: {told}; written to {escape_controls(str(output))}", file=sys.stderr)


def _line(stream: Any, rich_text: str) -> None:
    stream.write(rich_text + "\n")
    stream.flush()


def _flat(verdict: Verdict) -> dict[str, Any]:
    record = verdict.record
    values = verdict.model_dump(include={"id", "source", "label", "probability", "explanation"})
    return {
        **values,
        "file": record.file,
        "line": record.line,
        "degraded": "; ".join(verdict.degraded),
        "text": record.text,
    }


def verdict_table(verdicts: Sequence[Verdict], stream: Any = None) -> None:
    """All verdicts when they are few, else the anomalous and unsure ones, each template's first; then the counts."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=stream, highlight=False, width=None if stream is sys.stdout else 200)
    if len(verdicts) < _ALL_BELOW:
        chosen = [(verdict, 1) for verdict in verdicts]
    else:
        chosen = _grouped([verdict for verdict in verdicts if verdict.label != "normal"])
    table = Table(show_lines=False, expand=True, pad_edge=False)
    for name, ratio in (("file:line, id", 4), ("verdict", 2), ("p", 1), ("record and why", 12), ("precedents", 4)):
        table.add_column(name, ratio=ratio, overflow="fold")
    for verdict, times in chosen[:_MOST_ROWS]:
        record = verdict.record
        why = rich_text(truncate(record.text, 120), "bold")
        if times > 1:
            why.append(f"  (and {times - 1} more like it)", style="dim")
        if verdict.explanation:
            why.append(
                "\n" + escape_controls(truncate(verdict.explanation.partition(": ")[2], _WHY_CHARS)), style="dim"
            )
        for heard in verdict.degraded:
            why.append(f"\nnot heard: {escape_controls(heard)}", style="yellow")
        table.add_row(
            rich_text(f"{record.file or '-'}:{record.line or '-'}").append(f"\n{verdict.id}", style="dim"),
            rich_text(verdict.label, STYLES[verdict.label]),
            f"{verdict.probability:.2f}",
            why,
            rich_text("\n".join(f"{p.case_id} {p.label} {p.similarity:.2f}" for p in verdict.precedents[:3])),
        )
    if chosen:
        console.print(table)
    counts = {label: sum(verdict.label == label for verdict in verdicts) for label in STYLES}
    told = ", ".join(f"{count} {label}" for label, count in counts.items())
    console.print(f"{len(verdicts)} records: {told}")
    if len(chosen) > _MOST_ROWS:
        console.print(f"{len(chosen) - _MOST_ROWS} more rows; `--to jsonl --output FILE` writes every verdict")


def _grouped(verdicts: Sequence[Verdict]) -> list[tuple[Verdict, int]]:
    """The first verdict of each masked text with how many there are, the most probable first."""
    from retrieval.text.masking import mask

    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.label, mask(verdict.record.text)), []).append(verdict)
    return sorted(((group[0], len(group)) for group in groups.values()), key=lambda pair: -pair[0].probability)


def notes(reading: ParsedRow) -> None:
    """What was changed in reading a record, on standard error."""
    for note in reading.notes:
        print(f"{reading.record.file}:{reading.record.line}: {escape_controls(note)}", file=sys.stderr)


def learned(done: LearnResult) -> None:
    values = ", ".join(f"{value} ({count})" for value, count in done.label_values.most_common(8))
    print_line(
        rich_text(f"{done.read} records read for source {done.source}: {done.added} new cases, the rest were there")
    )
    print_line(
        rich_text(f"{done.labels['normal']} normal, {done.labels['anomalous']} anomalous; label values: {values}")
    )
    for label in ("normal", "anomalous"):
        if done.read and not done.labels[label]:
            print_line(rich_text(f"no record is labelled {label}: are the values of --normal right?", "yellow"))
    for note in done.notes[:10]:
        print(escape_controls(note), file=sys.stderr)
    if done.brief:
        how = "drafted by the language model" if done.brief_drafted else "brief"
        print_line(rich_text(f"{how}: {done.brief}"))
        if done.brief_drafted:
            print_line(rich_text(f"(edit it: precedent sources brief {done.source} TEXT)", "dim"))
    if done.brief_rejected:
        print_line(rich_text(f"no brief: the language model's draft {done.brief_rejected}", "yellow"))
        print_line(rich_text(f"(write one: precedent sources brief {done.source} TEXT)", "dim"))
    if done.language_note:
        print_line(rich_text(done.language_note))
    if done.language_auc is not None:
        print_line(
            rich_text(
                f"the language model alone tells cases apart with AUC {done.language_auc:.2f} (1 always, 0.5 chance)"
            )
        )
    if done.language_missing:
        print_line(rich_text(f"learned without the language model: {done.language_missing}", "yellow"))


_MEANING = {
    "accuracy": "share of right labels; an unsure record counts at the source's threshold, here and in the next three",
    "precision": "share of anomalies among what was called anomalous",
    "recall": "share of the anomalies that was called so",
    "f1": "harmonic mean of both",
    "roc_auc": "how well probabilities rank anomalies before the rest: 1 always, 0.5 chance",
    "average_precision": "mean precision over all thresholds",
    "ece": "how far probabilities are from the shares that came true",
    "coverage": "share that was decided, not unsure",
    "selective_error": "error among those",
}


def figures(evaluation: Evaluation, as_json: bool) -> None:
    if evaluation.learned:
        of = f"{evaluation.learned:,} of the {evaluation.n:,} records are cases of the source"
        print(f"{of}: it knows their labels, so that the figures promise too much", file=sys.stderr)
    if as_json:
        print(evaluation.model_dump_json())
        return
    from rich.table import Table

    table = Table("figure", "value", "meaning")
    for name, value in evaluation.model_dump().items():
        told = "not defined" if value is None else f"{value:.4g}" if name != "n" else str(value)
        table.add_row(name, told, _MEANING.get(name, ""))
    console().print(table)


def sources(rows: Sequence[SourceRow]) -> None:
    if not rows:
        print("no source yet: `precedent learn FILE --source NAME --label COLUMN` makes one")
        return
    from rich.table import Table

    table = Table("source", "normal", "anomalous", "casebook version", "brief")
    for row in rows:
        counts = (str(row.counts["normal"]), str(row.counts["anomalous"]))
        table.add_row(row.name, *counts, str(row.version), rich_text(row.brief[:100]))
    console().print(table)


def source(row: SourceRow, drift: Drift, as_json: bool) -> None:
    shown = {
        "name": row.name,
        "cases": row.counts,
        "casebook_version": row.version,
        "compared_by": "fields" if row.space and row.space.field_encoder else "text",
        "brief": row.brief,
        "brief_by": row.brief_by,
        "reading": row.reading,
        "judge": {
            name: value
            for name, value in (row.judge or {}).items()
            if name not in ("nn_distance_quantiles", "normal_axes")
        },
    }
    if as_json:
        print(json.dumps({**shown, "drift": drift.model_dump()}, ensure_ascii=False))
        return
    for name, value in shown.items():
        said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        print_line(rich_text(f"{name}: {said}"))
    for finding in drift.findings or [f"nothing to act on, by the last {drift.records} records judged"]:
        print_line(rich_text(f"drift: {finding}", "yellow"))


def candidates(every: Sequence[Candidate], source: str, as_json: bool) -> None:
    """What to correct first, and how."""
    if as_json:
        print(json.dumps([one.model_dump(mode="json") for one in every], ensure_ascii=False))
        return
    if not every:
        print(
            f"nothing to review: judge records first (precedent judge FILE --source {source}); known ones teach nothing"
        )
        return
    from rich.table import Table

    table = Table(expand=True, pad_edge=False)
    for name, ratio in (("id", None), ("file:line", 1), ("verdict", None), ("p", None), ("record", 3)):
        # an id is there to be copied, whole
        table.add_column(name, ratio=ratio, overflow="fold", no_wrap=ratio is None)
    for one in every:
        said = rich_text(truncate(one.record.text, 200))
        if one.alike > 1:
            said.append(f"  (and {one.alike - 1} more like it)", style="dim")
        table.add_row(
            rich_text(one.id),
            rich_text(f"{one.record.file or '-'}:{one.record.line or '-'}"),
            rich_text(one.label, STYLES[one.label]),
            f"{one.probability:.2f}",
            said,
        )
    console().print(table)
    print("Say what each really is, right or wrong: precedent correct ID normal|anomalous; then judge again.")


def stream_text(pieces: Iterable[str]) -> str:
    """Print each piece when it is there; all of them together."""
    whole = ""
    for piece in pieces:
        whole += piece
        print(escape_controls(piece), end="", flush=True)
    return whole


def findings(every: Sequence[Finding]) -> None:
    for one in every:
        mark, style = (
            ("ok", "green") if one.fine else ("missing" if one.needed else "absent", "red" if one.needed else "")
        )
        line = rich_text(f"{mark:8}", style)
        line.append(f"{one.what}: {escape_controls(one.said)}")
        print_line(line)


def converse(chat: Runnable[ChatInput, str], source: str | None) -> None:
    """A conversation in the terminal, until end of input."""
    from langchain_core.messages import AIMessage, HumanMessage

    from agent.chat.commands import HELP, ChatInput

    interactive = sys.stdin.isatty()
    if interactive:
        print(HELP)
    messages: list[Any] = [AIMessage(f"records are now judged as source {source}")] if source else []
    while True:
        try:
            said = input("\n> " if interactive else "")
        except EOFError:
            return
        messages.append(HumanMessage(said))
        answer = stream_text(chat.stream(ChatInput(messages=messages)))
        print()
        messages.append(AIMessage(answer))
