"""Interpretability: whether what an explanation names is what the verdict rests on."""

from __future__ import annotations

import argparse
import random
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agent.core.numerics import logit
from agent.core.records import FieldValue, Record, Verdict
from agent.data.readers.values import spell_out
from agent.pipeline.context import AppContext
from benchmarks.demonstrations.inputs import SEED, Data, chosen_data
from benchmarks.demonstrations.learning import empty_context, judge_records, learn_rows
from benchmarks.demonstrations.report import Row, Table
from benchmarks.progress import progress_lines
from benchmarks.quality.baselines import Floats, forest
from benchmarks.systems.split import add_file_options
from retrieval.text.masking import kind_of_event, mask

NAME, TITLE = "interpretability", "Interpretability: do verdicts rest on what explanations name?"
SHOWS = """\
A deletion test. Of records that are not judged normal, the features, events or words that the explanation names are
taken away (a feature gets the middle value of the normal cases), and the record is judged again; then as many others,
drawn at random. *drop* is how far the log-odds of *anomalous* fall. For tables, *rank agreement* is Spearman's
correlation, over the features, of what taking one away changes with a forest's permutation importance.
"""
CONCLUDES = """\
In tables and sessions the verdicts rest on what the explanations name, and the features that count most are those
that a forest needs most. Limits: in texts they do not: the words that are named are those that the nearest normal
case lacks, and as many other words, which are often the rest of the same message, count for more. Few sessions were
judged anomalous.
"""
DEFAULT = ("genome", "sms", "hdfs100k")
_DRAWS = 3
_QUOTED = re.compile(r"“([^“”]*)”")
# facts that name no part of the record
_ABOUT_CASES = ("nearest ", "decided by", "weighing most", "the casebook holds", "it is farther")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_file_options(parser, "LEARN", "JUDGE", DEFAULT)
    parser.add_argument("--limit", type=int, default=400, metavar="N", help="most records of a side [%(default)s]")
    parser.add_argument("--explained", type=int, default=40, metavar="N", help="records to test [%(default)s]")


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Table]:
    """A table for each data set."""
    for data in chosen_data(options, DEFAULT, folder):
        progress = progress_lines(data.name)
        context = empty_context(folder / f"home-{data.name}", options.model)
        learn_rows(context, "known", data.learned, data.options, data.brief)
        progress("explaining", 0, 1)
        suspicious = sorted(data.judged, key=lambda row: row.label != "anomalous")[: 2 * options.explained]
        verdicts = judge_records(context, "known", [row.record for row in suspicious], "facts")
        explained = [verdict for verdict in verdicts if verdict.label != "normal"][: options.explained]
        progress("taking away", 0, 1)
        remover = _Remover(data)
        rows = _deletion(context, remover, explained)
        about = f"{data.about} {len(data.learned):,} learned, {len(explained)} records that are not judged normal."
        yield Table(data.name, about, rows)
        if data.shape == "fields":
            progress("importance", 0, 1)
            yield from _agreement(context, remover, data, explained)
        context.close()


class _Remover:
    """Takes parts of records away."""

    def __init__(self, data: Data) -> None:
        self.shape = data.shape
        normal = [row.record.fields for row in data.learned if row.label == "normal"]
        self.usual = {name: _usual([fields.get(name) for fields in normal]) for name in _columns(data)}

    def parts(self, record: Record) -> list[str]:
        """What may be taken away: features, kinds of events, or words."""
        if self.shape == "fields":
            return [name for name in record.fields if name in self.usual]
        words = map(kind_of_event, record.events) if self.shape == "events" else record.text.split()
        return list(dict.fromkeys(words))

    def named(self, verdict: Verdict) -> list[str]:
        """The parts that the facts of the verdict name."""
        facts = [fact for fact in verdict.facts if not fact.startswith(_ABOUT_CASES)]
        parts = self.parts(verdict.record)
        if self.shape == "fields":
            return [name for name in parts if any(re.search(rf"(?<!\S){re.escape(name)} (is|were) ", f) for f in facts)]
        quoted = [text.removesuffix("…").strip() for fact in facts for text in _QUOTED.findall(fact)]
        if self.shape == "events":
            return [part for part in parts if any(part.startswith(text) for text in quoted if text)]
        words = {word for text in quoted for word in text.lower().split()}
        return [part for part in parts if words & set(mask(part).lower().split())]

    def without(self, record: Record, parts: Sequence[str]) -> Record | None:
        """The record without these parts; None if nothing is left."""
        if self.shape == "fields":
            fields = {name: self.usual[name] if name in parts else value for name, value in record.fields.items()}
            return Record(text=spell_out(fields), fields=fields)
        if self.shape == "events":
            events = tuple(event for event in record.events if kind_of_event(event) not in parts)
            return Record(events=events) if events else None
        text = " ".join(word for word in record.text.split() if word not in parts)
        return Record(text=text) if text else None


def _columns(data: Data) -> list[str]:
    return list(dict.fromkeys(name for row in data.learned for name in row.record.fields))


def _usual(values: Sequence[FieldValue]) -> FieldValue:
    """The middle number, or the commonest value."""
    numbers = [float(value) for value in values if isinstance(value, float)]
    if 2 * len(numbers) > len(values):
        return float(statistics.median(numbers))
    known = Counter(value for value in values if value is not None)
    return known.most_common(1)[0][0] if known else None


def _deletion(context: AppContext, remover: _Remover, explained: Sequence[Verdict]) -> list[Row]:
    """How far the log-odds fall without the parts that are named, and without as many others."""
    rng = random.Random(SEED)
    changed, whose = list[Record](), list[tuple[int, bool]]()
    for number, verdict in enumerate(explained):
        named, parts = remover.named(verdict), remover.parts(verdict.record)
        others = [part for part in parts if part not in named]
        if not named or not others:
            continue
        draws = [rng.sample(others, min(len(named), len(others))) for _ in range(_DRAWS)]
        for is_named, taken in ((True, named), *((False, draw) for draw in draws)):
            record = remover.without(verdict.record, taken)
            if record is not None:
                changed.append(record)
                whose.append((number, is_named))
    drops: dict[int, dict[bool, list[float]]] = {}
    for (number, is_named), after in zip(whose, judge_records(context, "known", changed), strict=True):
        drop = logit(explained[number].probability) - logit(after.probability)
        drops.setdefault(number, {True: [], False: []})[is_named].append(drop)
    pairs = [
        (statistics.fmean(of_both[True]), statistics.fmean(of_both[False]))
        for of_both in drops.values()
        if all(of_both.values())
    ]
    more = sum(named > other for named, other in pairs)
    return [
        {
            "taken away": kind,
            "records": len(pairs),
            "mean drop": statistics.fmean(pair[place] for pair in pairs) if pairs else None,
            "median drop": statistics.median(pair[place] for pair in pairs) if pairs else None,
            "larger drop": count / len(pairs) if pairs else None,
        }
        for place, (kind, count) in enumerate((("what is named", more), ("as many others", len(pairs) - more)))
    ]


def _agreement(context: AppContext, remover: _Remover, data: Data, explained: Sequence[Verdict]) -> Iterator[Table]:
    """Each feature: how much the verdicts rest on it, how often it is named, and its importance to a forest."""
    from scipy.stats import spearmanr

    names = list(remover.usual)
    before = judge_records(context, "known", [row.record for row in data.judged])
    change = dict[str, float]()
    for name in names:
        without = [remover.without(row.record, [name]) or row.record for row in data.judged]
        after = judge_records(context, "known", without)
        change[name] = statistics.fmean(
            abs(logit(one.probability) - logit(other.probability)) for one, other in zip(before, after, strict=True)
        )
    importance = _permutation_importance(data, names)
    named = Counter(name for verdict in explained for name in remover.named(verdict))
    rows: list[Row] = [
        {
            "feature": name,
            "mean change of log-odds": change[name],
            "named": named[name] / len(explained) if explained else None,
            "forest's importance": importance.get(name),
        }
        for name in sorted(names, key=lambda name: -change[name])
    ]
    if not importance:
        yield Table(f"{data.name}: features", "No forest: the learned records have one label only.", rows)
        return
    values: Mapping[str, list[float]] = {
        "the change of log-odds": [change[name] for name in names],
        "how often it is named": [float(named[name]) for name in names],
    }
    ranks = [
        f"of {what}: {float(spearmanr(numbers, [importance[name] for name in names]).statistic):.2f}"
        for what, numbers in values.items()
        if len(set(numbers)) > 1
    ]
    yield Table(f"{data.name}: features", f"Rank agreement with the forest's importance {', '.join(ranks)}.", rows)


def _permutation_importance(data: Data, names: Sequence[str]) -> dict[str, float]:
    """How much a forest's AUC falls when one feature of the judged records is shuffled."""
    from sklearn.metrics import roc_auc_score

    truth = [row.label == "anomalous" for row in data.judged]
    if len({row.label for row in data.learned}) < 2 or len(set(truth)) < 2:
        return {}
    order = np.random.default_rng(SEED).permutation(len(data.judged))
    shuffled = [
        replace(
            row,
            record=row.record.model_copy(
                update={"fields": {**row.record.fields, name: data.judged[order[i]].record.fields.get(name)}}
            ),
        )
        for name in names
        for i, row in enumerate(data.judged)
    ]
    # one forest judges the records as they are and shuffled by each feature
    probability = forest(data.learned, [*data.judged, *shuffled], _no_encoding).reshape(len(names) + 1, -1)
    whole, *each = [float(roc_auc_score(truth, scores)) for scores in probability]
    return {name: whole - auc for name, auc in zip(names, each, strict=True)}


def _no_encoding(texts: Sequence[str]) -> Floats:
    raise AssertionError("a forest of fields reads no texts")
