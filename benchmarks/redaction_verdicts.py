"""What redaction does to verdicts: one half of a data set is learned, the other judged, with and without redaction.

``python -m benchmarks.redaction_verdicts [--most N] [NAME …]``; four lines of five have a line with secrets behind
them.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from sklearn.metrics import roc_auc_score

from agent.core.records import Record, Verdict
from agent.core.settings import Settings
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.learn import learn
from benchmarks.redaction_lines import first
from retrieval.text.redaction import DEFAULT_KINDS

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
Rows = list[tuple[bool, str]]


def sms() -> Rows:
    """Messages, of which spam is anomalous; many name numbers of telephones."""
    lines = (_DATA / "sms" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()
    return [(label == "spam", text) for label, _, text in (line.partition("\t") for line in lines)]


def bgl() -> Rows:
    """Lines of a supercomputer's log."""
    lines = (_DATA / "logs" / "bgl" / "BGL_2k.log").read_text(encoding="utf-8").splitlines()
    return [(label != "-", text) for label, _, text in (line.partition(" ") for line in lines)]


SETS: dict[str, Callable[[], Rows]] = {"sms": sms, "bgl": bgl}


def auc(rows: Rows, redact: tuple[str, ...]) -> float:
    """ROC AUC on the second half, learned from the first, without a language model."""
    half = len(rows) // 2
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cases.csv"
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("label", "text"), *(("bad" if a else "ok", t) for a, t in rows[:half])])
        context = AppContext(Settings.model_validate({"home": Path(folder) / "home", "model": "none", "offline": True}))
        learn(
            context, [file], "s", ReadOptions(label="label", normal=("ok",), text=("text",)), redact=redact, brief="b"
        )
        records = (Record(text=text) for _, text in rows[half:])
        found = list(judge_many(context, build(context), records, "s", "none", keep=False))
        context.close()
    pairs = [
        (anomalous, verdict.probability)
        for (anomalous, _), verdict in zip(rows[half:], found, strict=True)
        if isinstance(verdict, Verdict)
    ]
    return float(roc_auc_score(*map(list, zip(*pairs, strict=True))))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SETS)}; all by default")
    parser.add_argument("--most", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    for name in chosen.names or SETS:
        for seed in range(chosen.seeds):
            random = Random(seed)
            rows = SETS[name]()
            random.shuffle(rows)
            secrets = [line.text for line in first(seed, 2 * chosen.most) if line.values]
            rows = [
                (anomalous, f"{text} {secrets[n % len(secrets)]}" if random.random() < 0.8 else text)
                for n, (anomalous, text) in enumerate(rows[: chosen.most])
            ]
            with_, without = auc(rows, DEFAULT_KINDS), auc(rows, ())
            print(f"{name}, seed {seed}: AUC {with_:.4f} with redaction, {without:.4f} without", flush=True)


if __name__ == "__main__":
    main()
