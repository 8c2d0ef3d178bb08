"""`python -m benchmarks.quality [TASK …]`: run what is not measured yet, print the table."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.progress import print_status, progress_lines
from benchmarks.quality.results import Result, code, kept
from benchmarks.quality.running import CachedContext, run
from benchmarks.quality.table import page
from benchmarks.quality.tasks import TASKS, Task
from llm.weights.catalog import default_model

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "quality.md"


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    folder: Path = options.results / "adapt" if options.adapt else options.results
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [TASKS[name] for name in options.task or TASKS]
    if options.table:
        results = [result for task in tasks if (result := kept(folder, task.name))]
    else:
        results = _measured(tasks, options.seeds, options.limit, options.model, folder, adapt=options.adapt)
    if options.write:
        _PAGE.write_text(page(results), encoding="utf-8")
    print(page(results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="Quality on public data sets.")
    parser.add_argument("task", nargs="*", type=_task, metavar="TASK", help=f"[all of {', '.join(TASKS)}]")
    parser.add_argument("--seeds", type=int, metavar="N", help="draws of each task that has random ones [the task's]")
    parser.add_argument("--limit", type=int, metavar="N", help="judge a seeded sample of N, for a quick look")
    parser.add_argument("--model", default=f"embedded:{default_model()}", help="language model, or none [%(default)s]")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("build/quality"),
        metavar="FOLDER",
        help="where results are kept, and from where a run is resumed [%(default)s]",
    )
    parser.add_argument("--adapt", action="store_true", help="judge as `precedent judge --adapt` does")
    parser.add_argument("--table", action="store_true", help="measure nothing, show what was measured before")
    parser.add_argument("--write", action="store_true", help="write docs/quality.md as well")
    return parser


def _task(name: str) -> str:
    if name not in TASKS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(TASKS)}")
    return name


def _measured(
    tasks: Sequence[Task], seeds: int | None, limit: int | None, model: str, folder: Path, *, adapt: bool
) -> list[Result]:
    """The tasks' results; draws that were measured before, with the same code and model, are not measured again."""
    results, state = [], code()
    with tempfile.TemporaryDirectory() as home:
        parts = CachedContext(Path(home), model, folder / "answers.db")
        parts.warm()
        for task in tasks:
            if task.missing:
                print_status(f"{task.name}: left out, {task.missing[0]} is not here")
                continue
            result, before = Result(task.name, model, limit, state), kept(folder, task.name)
            if before and before.like(result):
                result = before
            wanted = [str(seed) for seed in range(1 if task.draws == 1 else seeds or task.draws)]
            for seed in wanted:
                if seed in result.runs:
                    print_status(f"{task.name}, draw {seed}: measured before")
                    continue
                progress = progress_lines(f"{task.name}, draw {seed}")
                result.runs[seed] = run(parts, task, int(seed), limit, progress, adapt=adapt)
                result.keep(folder)
            results.append(replace(result, runs={seed: result.runs[seed] for seed in wanted}))
        parts.close()
    return results


if __name__ == "__main__":
    main()
