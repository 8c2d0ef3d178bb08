"""Detectors of sessions on HDFS: DeepLog, LogAnomaly, LogBERT, and Precedent's own model of sequences.

`hdfs` has no file of normal sessions to test on: 70 % of its normal sessions are learned, by a seeded draw, and the
others are judged with all anomalous ones. The whole published data set has 553,366 normal sessions to judge; the column
"F1 at the published share" weighs the normal ones up to that number. `hdfs_100k` learns the normal sessions of its
training split and judges its test split. All systems learn from normal sessions only; a session is anomalous if its
log-odds are above 0. `python -m benchmarks.sequences` prints a table.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from agent.core.records import Record
from agent.core.terminal import progress
from agent.detectors.base import Detector, DetectorInput, TrainingCase
from agent.detectors.contrib.deeplog import DeepLog
from agent.detectors.contrib.loganomaly import LogAnomaly
from agent.detectors.contrib.logbert import LogBert
from agent.detectors.contrib.resources import showing_training
from agent.detectors.sequence import SequenceModel
from benchmarks.bgl import BGL
from retrieval.arrays import Floats
from retrieval.encoding.session_block import SessionBlock
from retrieval.types import RetrievalResult

DATA = BGL.parents[2]
_PUBLISHED_NORMAL = 553_366
# the templates of HDFS by their usual numbers, from 1
_TEMPLATES = """\
Adding an already existing block <*>
Verification succeeded for <*>
<*> Served block <*> to <*>
<*>:Got exception while serving <*> to <*>
Receiving block <*> src: <*> dest: <*>
Received block <*> src: <*> dest: <*> of size <*>
writeBlock <*> received exception <*>
PacketResponder <*> for block <*> Interrupted.
Received block <*> of size <*> from <*>
PacketResponder <*> <*> Exception <*>
PacketResponder <*> for block <*> terminating
<*>:Exception writing block <*> to mirror <*>
Receiving empty packet for block <*>
Exception in receiveBlock for block <*>
Changing block file offset of block <*> from <*> to <*> meta file offset to <*>
<*>:Transmitted block <*> to <*>
<*>:Failed to transfer <*> to <*> got <*>
<*> Starting thread to transfer block <*> to <*>
Reopen Block <*>
Unexpected error trying to delete block <*>. BlockInfo not found in volumeMap.
Deleting block <*> file <*>
BLOCK* NameSystem.allocateBlock: <*>
BLOCK* NameSystem.delete: <*> is added to invalidSet of <*>
BLOCK* Removing block <*> from neededReplications as it does not belong to any file.
BLOCK* ask <*> to replicate <*> to <*>
BLOCK* NameSystem.addStoredBlock: blockMap updated: <*> is added to <*> size <*>
BLOCK* NameSystem.addStoredBlock: Redundant addStoredBlock request received for <*> on <*> size <*>
BLOCK* NameSystem.addStoredBlock: addStoredBlock request received for <*> on <*> size <*> But it does not belong to any file.
PendingReplicationMonitor timed out block <*>
""".splitlines()  # noqa: E501
Session = tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """Distinct sessions with how often each occurs: normal ones to learn, and those to judge by label."""

    learned: Mapping[Session, int]
    normal: Mapping[Session, int]
    anomalous: Mapping[Session, int]
    published_normal: int | None = None


@dataclass(frozen=True)
class Result:
    """Figures of one system on one task; ``published_f1`` at the published share of anomalous sessions."""

    precision: float
    recall: float
    f1: float
    auc: float
    average_precision: float
    published_f1: float | None
    false_alarms: float
    fit_seconds: float
    sessions_a_second: float


def hdfs(data: Path = DATA, learned: float = 0.7, anomalous: float = 1.0, seed: int = 0) -> Task:
    """The sessions of event numbers, as templates; a share of the normal ones is learned."""

    def read(name: str) -> list[Session]:
        lines = (data / "hdfs" / name).read_text(encoding="utf-8").splitlines()
        return [tuple(_TEMPLATES[int(number) - 1] for number in line.split()) for line in lines]

    rng = random.Random(seed)
    normal, bad = read("hdfs_train"), read("hdfs_test_abnormal")
    rng.shuffle(normal)
    # the first ones are learned; at most 30 % are judged, whatever is learned
    size, judged = round(learned * len(normal)), len(normal) - round(0.7 * len(normal))
    bad = rng.sample(bad, round(anomalous * len(bad)))
    published = round(_PUBLISHED_NORMAL * anomalous)
    return Task(Counter(normal[:size]), Counter(normal[-judged:]), Counter(bad), published)


def hdfs_100k(data: Path = DATA) -> Task:
    """The sessions of templates of deep-loglizer's split."""
    of_label: dict[tuple[str, bool], Counter[Session]] = {}
    for part in ("train", "test"):
        for line in (data / "hdfs_100k" / f"{part}.jsonl").read_text(encoding="utf-8").splitlines():
            session = json.loads(line)
            of_label.setdefault((part, bool(session["label"])), Counter())[tuple(session["events"])] += 1
    return Task(of_label["train", False], of_label["test", False], of_label["test", True])


Scores = Callable[[Sequence[Session]], Floats]


def _of_detector(detector: type[Detector]) -> Callable[[Mapping[Session, int]], Scores]:
    def fit(learned: Mapping[Session, int]) -> Scores:
        fitted = detector.fit([TrainingCase(record_of(s), anomalous=False, times=n) for s, n in learned.items()])
        assert fitted is not None

        def score(sessions: Sequence[Session]) -> Floats:
            signals = fitted.score([record_of(session) for session in sessions])
            return np.array([signal.log_odds for signal in signals], dtype=np.float64)

        return score

    return fit


def _precedent(learned: Mapping[Session, int]) -> Scores:
    sessions = list(learned)
    model, _, _ = SequenceModel.fit(sessions, np.array([*learned.values()]), np.zeros(len(sessions), bool))
    return lambda judged: model.log_odds(SessionBlock.of(judged))


SYSTEMS: Mapping[str, Callable[[Mapping[Session, int]], Scores]] = {
    "deeplog": _of_detector(DeepLog),
    "loganomaly": _of_detector(LogAnomaly),
    "logbert": _of_detector(LogBert),
    "precedent (sequence)": _precedent,
}
TASKS: Mapping[str, Callable[[], Task]] = {"hdfs": hdfs, "hdfs_100k": hdfs_100k}


def record_of(session: Session) -> DetectorInput:
    """A session as a detector gets it."""
    return DetectorInput(Record(events=session), "", "", {}, RetrievalResult((), {}, {}, np.zeros(0, np.float32)))


def measure(task: Task, system: Callable[[Mapping[Session, int]], Scores]) -> Result:
    """Fit a system to a task's normal sessions, and judge the others."""
    started = time.perf_counter()
    score = system(task.learned)
    fitted = time.perf_counter()
    judged = [*task.normal, *task.anomalous]
    log_odds = score(judged)
    seconds = time.perf_counter() - fitted
    times = np.array([*task.normal.values(), *task.anomalous.values()])
    anomalous = np.arange(len(judged)) >= len(task.normal)
    flagged = log_odds > 0
    hits, alarms = times[flagged & anomalous].sum(), times[flagged & ~anomalous].sum()
    misses = times[~flagged & anomalous].sum()
    normal, published = times[~anomalous].sum(), task.published_normal
    return Result(
        precision=float(hits / max(1, hits + alarms)),
        recall=float(hits / (hits + misses)),
        f1=_f1(hits, misses, alarms),
        auc=float(roc_auc_score(anomalous, log_odds, sample_weight=times)),
        average_precision=float(average_precision_score(anomalous, log_odds, sample_weight=times)),
        published_f1=_f1(hits, misses, alarms * published / normal) if published else None,
        false_alarms=float(alarms / normal),
        fit_seconds=fitted - started,
        sessions_a_second=len(judged) / seconds,
    )


def _f1(hits: float, misses: float, alarms: float) -> float:
    return float(2 * hits / (2 * hits + misses + alarms))


def _row(task: str, system: str, result: Result) -> str:
    published = "" if result.published_f1 is None else f"{result.published_f1:.3f}"
    figures = [result.precision, result.recall, result.f1, result.auc, result.average_precision, result.false_alarms]
    cells = [task, system, *(f"{figure:.3f}" for figure in figures), published]
    return f"| {' | '.join(cells)} | {result.fit_seconds:.0f} | {result.sessions_a_second:,.0f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sequences", description=__doc__)
    parser.add_argument("--data", nargs="+", choices=[*TASKS], default=[*TASKS])
    parser.add_argument("--systems", nargs="+", choices=[*SYSTEMS], default=[*SYSTEMS])
    chosen = parser.parse_args(arguments)
    head = ["task", "system", "precision", "recall", "F1", "AUC", "AP", "false alarms", "F1 at the published share"]
    head += ["seconds to fit", "distinct sessions a second"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    with progress() as show, showing_training(show):
        for name in chosen.data:
            task = TASKS[name]()
            for system in chosen.systems:
                print(_row(name, system, measure(task, SYSTEMS[system])), flush=True)


if __name__ == "__main__":
    main()
