"""Redaction: how much is found, how much else is taken for it, how fast, and what it does to verdicts.

``python -m benchmarks.redaction [--seed N] [--write]``; ``--write`` puts the figures into ``docs/redaction.md``.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from pathlib import Path

import polars as pl

from benchmarks.redaction_held_out import held_out
from benchmarks.redaction_lines import Line, first
from retrieval.text.redaction import DEFAULT_KINDS, Redactor
from retrieval.text.redaction_finders import PLACEHOLDER

_LINES = 2_000
_PAGE = Path(__file__).resolve().parents[1] / "docs" / "redaction.md"
_FIGURES = re.compile(r"(<!-- figures -->\n).*?(<!-- end -->)", re.DOTALL)


def measure(lines: list[Line], redactor: Redactor) -> dict[str, tuple[int, int, int]]:
    """By kind: values, those of them that are gone, and placeholders that stand for something else."""
    values, gone, wrong = Counter[str](), Counter[str](), Counter[str]()
    for line in lines:
        redacted = redactor.text(line.text)
        for value, kind in line.values:
            values[kind] += 1
            gone[kind] += value not in redacted
        found = Counter(match.group()[1:].partition(":")[0] for match in PLACEHOLDER.finditer(redacted))
        wrong.update(found - Counter(kind for _, kind in line.values))
    return {kind: (values[kind], gone[kind], wrong[kind]) for kind in DEFAULT_KINDS}


def table(name: str, found: dict[str, tuple[int, int, int]]) -> list[str]:
    """Lines of a table of precision and recall."""
    total = tuple(sum(column) for column in zip(*found.values(), strict=True))
    rows = []
    for kind, (values, gone, wrong) in {**found, "all": total}.items():
        precision = f"{gone / (gone + wrong):.3f}" if gone + wrong else "-"
        recall = f"{gone / values:.3f}" if values else "-"
        rows.append(f"| {name} | {kind} | {values} | {recall} | {precision} |")
    return rows


def throughput(lines: list[Line], redactor: Redactor) -> str:
    """Processor seconds of redacting lines, by array first, beside those of telling which are suspect."""
    texts = pl.Series([line.text for line in lines])
    began = time.process_time()
    suspects = redactor.suspects(texts)
    looked = time.process_time()
    for text in texts.filter(suspects).to_list():
        redactor.text(text)
    done = time.process_time()
    return (
        f"{len(texts):,} lines, {suspects.sum() / len(texts):.0%} of them suspect: "
        f"{1e6 * (looked - began) / len(texts):.1f} µs of processor time a line to find the suspect ones, "
        f"{1e6 * (done - looked) / max(int(suspects.sum()), 1):.0f} µs "
        "for each of these"
    )


def main() -> None:
    """Measure, print, and write the page if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    redactor = Redactor(DEFAULT_KINDS, b"of the benchmark")
    lines = ["| lines | kind | values | recall | precision |", "|---|---|---|---|---|"]
    made = {"first maker": first(chosen.seed, _LINES), "second maker": held_out(chosen.seed, _LINES)}
    for name, of_maker in made.items():
        lines += table(name, measure(of_maker, redactor))
    lines += ["", throughput([line for of_maker in made.values() for line in of_maker], redactor) + "."]
    shown = "\n".join(lines)
    print(shown)
    if chosen.write:
        page = _PAGE.read_text(encoding="utf-8")
        _PAGE.write_text(_FIGURES.sub(lambda match: f"{match[1]}{shown}\n{match[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
