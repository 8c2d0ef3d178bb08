"""Debiasing: what a record without content gets, and how far a language model leans before it has read anything.

Zhao et al. 2021, "Calibrate before use": the answer to a content-free input is a model's bias; contextual calibration
subtracts it.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from agent.core.errors import PrecedentError, translate
from agent.core.records import SIGNALS, Record, Verdict
from agent.data.readers import ParsedRow
from agent.detectors.language import LanguageDetector
from agent.pipeline.context import AppContext
from agent.training.evaluation import classification_figures
from benchmarks.demonstrations.inputs import SEED, Data, chosen_data
from benchmarks.demonstrations.label_share import BASELINES
from benchmarks.demonstrations.learning import empty_context, judge_records, learn_rows
from benchmarks.demonstrations.report import Row, Table
from benchmarks.progress import Progress, print_status, progress_lines
from benchmarks.quality.baselines import encoding_once
from benchmarks.systems.split import add_file_options
from llm.errors import ModelFailure
from retrieval.encoding.representation import Representation

NAME, TITLE = "debiasing", "Debiasing: records without content"
SHOWS = """\
A record that says nothing must not be sure of a label. Each row is one: the verdict, the signals' log-odds, and what
plain classifiers give. The second table is the language model's, asked about records of both labels alike: its log-odds
for records without content are its bias, which contextual calibration (Zhao et al. 2021) subtracts.
"""
CONCLUDES = """\
Records without content are unsure, whatever the signals say; plain classifiers decide them. The language model's bias
before it reads anything is less than one in log-odds; subtracting it moves its answers towards the other label and
leaves the ranking as it is. Limits: the bias depends on the brief and on the placeholder; a source with cases has its
log-odds calibrated by these instead.
"""
DEFAULT, MODEL = ("sms", "genome"), "auto"
_TEXTS = ("N/A", "[MASK]", "<*> <*> <*>", "-")
_RECORDS = 40


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_file_options(parser, "LEARN", "JUDGE", DEFAULT)
    parser.add_argument("--limit", type=int, default=300, metavar="N", help="most records of a side [%(default)s]")


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Table]:
    """For each data set, the records without content; then the language model's bias, if there is a model."""
    for data in chosen_data(options, DEFAULT, folder):
        progress = progress_lines(data.name)
        context = empty_context(folder / f"home-{data.name}")
        learn_rows(context, "known", data.learned, data.options, data.brief)
        encode = encoding_once(context.embedder().encode)
        records = content_free(data)
        verdicts = judge_records(context, "known", list(records.values()))
        rate = statistics.fmean(row.label == "anomalous" for row in data.learned)
        about = f"{data.about} {len(data.learned):,} learned, of which {rate:.0%} are anomalous."
        columns = dict[str, Sequence[float]]()
        if 0 < rate < 1:
            empty = [ParsedRow(record, None, None) for record in records.values()]
            for name, baseline in BASELINES[data.shape].items():
                columns[name] = baseline(data.learned, empty, encode).tolist()
        rows = [
            _row(name, verdict, {system: values[i] for system, values in columns.items()})
            for i, (name, verdict) in enumerate(zip(records, verdicts, strict=True))
        ]
        yield Table(data.name, about, rows)
        context.close()
        if options.model != "none" and data.shape == "text":
            yield from _language_tables(data, options.model, folder / f"model-{data.name}", progress)


def content_free(data: Data) -> Mapping[str, Record]:
    """Records of the data's shape that say nothing, by what they hold."""
    if data.shape == "text":
        return {f"`{text}`": Record(text=text) for text in _TEXTS}
    if data.shape == "events":
        return {f"one event `{text}`": Record(events=(text,)) for text in _TEXTS[:2]}
    columns = list(dict.fromkeys(name for row in data.learned for name in row.record.fields))
    return {
        "all columns empty": Record(fields=dict.fromkeys(columns)),
        "all columns `N/A`": Record(fields=dict.fromkeys(columns, "N/A")),
        "all columns `[MASK]`": Record(fields=dict.fromkeys(columns, "[MASK]")),
        "text `N/A`": Record(text="N/A"),
    }


def _row(name: str, verdict: Verdict, others: Mapping[str, float]) -> Row:
    signals = {signal: verdict.signals[signal] for signal in SIGNALS if signal != "language"}
    return {"record": name, "verdict": verdict.label, "probability": verdict.probability, **signals, **others}


def _language_tables(data: Data, model: str, home: Path, progress: Progress) -> Iterator[Table]:
    context = empty_context(home, model)
    try:
        detector = context.language_detector()
        yield Table(f"{data.name}: {detector.model.name}", *_language(context, detector, data, progress))
    except (ModelFailure, PrecedentError) as error:
        print_status(f"{data.name}: the language model is left out: {translate(error) or error}")
    context.close()


def _language(
    context: AppContext, detector: LanguageDetector, data: Data, progress: Progress
) -> tuple[str, Sequence[Row]]:
    """What is judged, and the figures with the raw log-odds and with those less the bias."""
    brief, masked = data.brief or "", Representation().masked
    by_content = {text: detector.log_odds(brief, text) for text in _TEXTS}
    bias = statistics.fmean(by_content.values())
    chosen = _of_both_labels(data.judged, _RECORDS)
    raw = list[float]()
    for number, row in enumerate(chosen):
        progress("querying the language model", number, len(chosen))
        raw.append(detector.log_odds(brief, masked(row.record)))
    truth, log_odds = np.array([row.label == "anomalous" for row in chosen]), np.array(raw)
    shown = ", ".join(f"`{text}` {value:+.1f}" for text, value in by_content.items())
    about = f"Log-odds of *anomalous* without content: {shown}. {len(chosen)} records, zero-shot by the brief."
    return about, [
        {
            "answers": name,
            "log-odds without content": bias - subtracted,
            "called anomalous": float((log_odds - subtracted > 0).mean()),
            **{
                figure: value
                for figure, value in classification_figures(log_odds - subtracted > 0, truth, log_odds).items()
                if figure in ("accuracy", "f1", "roc_auc")
            },
        }
        for name, subtracted in (("raw", 0.0), ("contextually calibrated", bias))
    ]


def _of_both_labels(rows: Sequence[ParsedRow], size: int) -> list[ParsedRow]:
    """A seeded sample with as many of each label, as far as there are enough."""
    rng, chosen = random.Random(SEED), list[ParsedRow]()
    for label in ("normal", "anomalous"):
        of_label = [row for row in rows if row.label == label]
        chosen += rng.sample(of_label, min(len(of_label), size // 2))
    return chosen
