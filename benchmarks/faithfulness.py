"""Are explanations faithful? `python -m benchmarks.faithfulness [DATA]` (the public data sets' folder).

One hundred records of a log, a table and a set of sessions are judged and explained, twenty of each by the language
model too. Every clause of the facts is parsed, and its numbers, case ids and quotations are looked up where they must
come from: the record, the cases, the source's model. A counterfactual is applied to the record's text or events, and
judged. In the model's sentences every number and case id must occur in the record, the precedents, the brief or the
facts.
"""

from __future__ import annotations

import csv
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from agent.core.records import Record
from agent.core.requests import JudgeRequest
from agent.core.settings import Settings, settings
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.learn import learn
from benchmarks.tracing import Evidence, untraced, wrong_clauses

_RECORDS, _BY_MODEL = 100, 20
BRIEFS = {
    "log": "Log of a Blue Gene/L supercomputer. Anomalous: fatal errors of kernel, file system or hardware.",
    "table": "Jobs of a scientific workflow. Anomalous: jobs slowed down by a busy processor, disk or network.",
    "sessions": "Sessions of HDFS blocks. Anomalous: blocks whose writing, replication or removal failed.",
}


def main() -> None:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not data.is_dir():
        sys.exit(f"the public data sets are not at {data}: python -m benchmarks.faithfulness FOLDER")
    with tempfile.TemporaryDirectory() as home:
        context = AppContext(Settings(home=Path(home), model="embedded:qwen2.5-coder-0.5b", cache=settings().cache))
        total = Counter[str]()
        for name, (learned, unseen, options) in _tasks(data, Path(home)).items():
            learn(context, [learned], name, options, brief=BRIEFS[name], budget=16)
            tally = _explained(context, name, _sample(options, unseen))
            _print(name, tally)
            total += tally
        _print("all", total)
        context.close()


def _tasks(data: Path, folder: Path) -> dict[str, tuple[Path, Path, ReadOptions]]:
    """By name: the file to learn, the file to judge, how to read them."""
    with (data / "logs" / "bgl" / "BGL_2k.log_structured.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    halves = [folder / "even.csv", folder / "odd.csv"]
    for path, half in zip(halves, (rows[0::2], rows[1::2]), strict=True):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *half])
    genome, hdfs = data / "workflows" / "1000genome", data / "hdfs_100k"
    numbered = ReadOptions(label="label", normal=("0",))
    return {
        "log": (halves[0], halves[1], ReadOptions(label="Label", normal=("-",), text=("Content",))),
        "table": (genome / "validation.csv", genome / "test.csv", numbered),
        "sessions": (hdfs / "train.jsonl", hdfs / "test.jsonl", numbered),
    }


def _sample(options: ReadOptions, path: Path) -> list[Record]:
    """Records of different texts, half of them labelled anomalous if there are as many, in a seeded order."""
    rows = {row.record.text: row for row in options.read(path, 65_536) if isinstance(row, ParsedRow)}
    shuffled = random.Random(11).sample(list(rows.values()), len(rows))
    anomalous = [row.record for row in shuffled if row.label == "anomalous"][: _RECORDS // 2]
    chosen = anomalous + [row.record for row in shuffled if row.label == "normal"][: _RECORDS - len(anomalous)]
    return random.Random(12).sample(chosen, len(chosen))


def _explained(context: AppContext, name: str, records: Sequence[Record]) -> Counter[str]:
    chain, tally = build(context), Counter[str]()
    row = context.casebook.source(name)
    assert row is not None
    cases = context.casebook.cases(name)
    for number, record in enumerate(records):
        verdict = chain.invoke(JudgeRequest.about(record, name))
        evidence = Evidence(verdict, row, cases, chain)
        problems = list(wrong_clauses(evidence))
        changes = "would be normal if" in verdict.explanation
        tally["changes"] += changes
        tally["changes true"] += changes and not any(problem.startswith("would be normal if") for problem in problems)
        if number < _BY_MODEL:
            explanation = chain.invoke(JudgeRequest.about(record, name, explain="llm")).explanation
            assert explanation.startswith(verdict.explanation)
            sentences = explanation.removeprefix(verdict.explanation).strip()
            tally["explained by the model"] += 1
            tally["dropped"] += not sentences
            problems += untraced(sentences, evidence)
        tally["records"] += 1
        tally["not normal"] += verdict.label != "normal"
        tally["traced"] += not problems
        for problem in problems:
            print(f"NOT TRACED {record.file}:{record.line}: {problem}")
    return tally


def _print(name: str, tally: Counter[str]) -> None:
    print(f"{name}: ids and numbers traced: {tally['traced']} of {tally['records']}")
    print(f"  counterfactuals confirmed by judging: {tally['changes true']} of {tally['changes']}", end="")
    print(f" (of {tally['not normal']} records not judged normal)")
    print(f"  the model's sentences all dropped: {tally['dropped']} of {tally['explained by the model']}", flush=True)


if __name__ == "__main__":
    main()
