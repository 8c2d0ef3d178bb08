"""`precedent demo`: learn half of a recorded PostgreSQL log, judge the other half, show figures and next steps."""

from __future__ import annotations

import os
import time
from pathlib import Path

from agent.cli import render
from agent.core import terminal
from agent.core.errors import MissingPart
from agent.core.records import Verdict
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.evaluation import evaluate
from agent.training.learn import learn

SOURCE = "postgres"
# fewer than the default, so that the demo takes one minute instead of three
_BUDGET = 48
# similarity from which the nearest case is of the same template
_SAME = 0.999
_FOLDER = Path(os.path.relpath(Path(__file__).resolve().parents[2] / "examples" / "postgres"))
_NEXT = """Next:
  make serve                                   then open the console at http://127.0.0.1:8000/
  .venv/bin/precedent chat --source postgres   the same in this terminal
  .venv/bin/precedent learn FILE --source NAME --label COLUMN    your own labelled records
  .venv/bin/precedent judge FILE --source NAME                   and the ones to judge
"""


def run(context: AppContext) -> None:
    """Run the demo.

    Raises
    ------
    MissingPart
        The recorded log is not installed: it is in the repository, not in the package.
    """
    if not (_FOLDER / "learn.log").is_file():
        raise MissingPart("the demo's log is in the project's repository: run `make demo` in a clone of it")
    options = ReadOptions(format="log", label="0", normal=("-",))
    started = time.perf_counter()
    print(f"Learning the labelled first half of a PostgreSQL server's log ({_FOLDER / 'learn.log'}) …", flush=True)
    with terminal.progress() as progress:
        brief = (_FOLDER / "brief.txt").read_text(encoding="utf-8")
        result = learn(
            context, [_FOLDER / "learn.log"], SOURCE, options, brief=brief, budget=_BUDGET, progress=progress
        )
    render.learned(result)

    print(f"\nJudging the second half, with faults that the first never had ({_FOLDER / 'judge.log'}) …", flush=True)
    rows = [row for row in options.read(_FOLDER / "judge.log", 65_536) if isinstance(row, ParsedRow)]
    chain = build(context)
    judging_started = time.perf_counter()
    verdicts: list[Verdict] = []
    with terminal.progress() as progress:
        for answer in judge_many(context, chain, (row.record for row in rows), SOURCE):
            assert isinstance(answer, Verdict), answer
            verdicts.append(answer)
            progress("judging", len(verdicts), len(rows))
    figures = evaluate(verdicts, [row.label == "anomalous" for row in rows], time.perf_counter() - judging_started)
    render.verdict_table(verdicts)

    new = [verdict for verdict in verdicts if verdict.label == "anomalous" and verdict.precedents[0].similarity < _SAME]
    if new and context.settings.model != "none":
        print("\nOne of them explained by the language model (each number and case is checked against the facts):")
        verdict = max(new, key=lambda verdict: verdict.probability)
        explained = chain.invoke(JudgeRequest.about(verdict.record, SOURCE, explain="llm"))
        print(terminal.escape_controls(f"- {explained.record.file}:{explained.record.line}: {explained.explanation}"))

    print("\nAgainst the labels of the second half:")
    render.figures(figures, as_json=False)
    print(f"\nDone in {time.perf_counter() - started:.0f} s.\n{_NEXT}")
    context.close()
