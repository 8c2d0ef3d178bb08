"""`ollama run` alone, with no Python: the form of the prompt that the trial chooses, on lines that no choice saw.

BGL_2k: cases hold 60 % of the templates, and 100 lines of the other templates are judged, 50 of them anomalous, each of
another template as far as there are enough. The demo: cases are the first half of the log, 50 anomalous and 50 normal
lines of the second half are judged, drawn at random.
`python -m benchmarks.ollama_run [-v] [--lines N] [--seed N] [--only bgl|demo] [--budget N] [--forms] [MODEL …]`,
catalog names; with budget 0 it is the usual prompt, untried.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from agent.core.settings import Settings, settings
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from agent.training.ollama_answers import Figures
from agent.training.ollama_export import CONTEXT_TOKENS, LocalModel, adapted, compose, of_gguf, tried
from benchmarks.bgl import BGL, BRIEF, INTAKE, halves
from benchmarks.private_ollama import PrivateOllama
from llm.llamacpp.backend import LlamaCppBackend
from llm.llamacpp.chat_model import EmbeddedChatModel
from llm.weights.resolver import resolve
from retrieval.encoding.representation import Representation
from retrieval.types import LABELS

_DEMO = Path(__file__).resolve().parents[1] / "examples" / "postgres"
_LOG = ReadOptions(format="log", label="0", normal=("-",))


def to_judge(rows: list[ParsedRow], count: int, seed: int, spread: bool) -> list[ParsedRow]:
    """``count`` rows, half of each label, drawn at random or spread over the templates."""
    chosen: list[ParsedRow] = []
    for label in LABELS:
        of_label = [row for row in rows if row.label == label]
        random.Random(seed).shuffle(of_label)
        if spread:
            representation = Representation()
            by_template: dict[str, list[ParsedRow]] = {}
            for row in of_label:
                by_template.setdefault(representation.masked(row.record), []).append(row)
            turns = max(map(len, by_template.values()), default=0)
            of_label = [rows[turn] for turn in range(turns) for rows in by_template.values() if turn < len(rows)]
        chosen += of_label[: count // 2]
    return chosen


def bgl(folder: Path, context: AppContext, count: int, seed: int) -> list[ParsedRow]:
    """Learn BGL's cases as source `bgl`; return the rows to judge."""
    cases, unseen = halves(seed)
    learned = folder / "cases.csv"
    with learned.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("Label", "Content"))
        writer.writerows(("-" if row.label == "normal" else "X", row.record.text) for row in cases)
    learn(context, [learned], "bgl", INTAKE, brief=BRIEF, budget=0)
    return to_judge(unseen, count, seed, spread=True)


def demo(folder: Path, context: AppContext, count: int, seed: int) -> list[ParsedRow]:
    """Learn the demo's first half as source `demo`; return rows of the second."""
    brief = (_DEMO / "brief.txt").read_text(encoding="utf-8")
    learn(context, [_DEMO / "learn.log"], "demo", _LOG, brief=brief, budget=0)
    rows = [row for row in _LOG.read(_DEMO / "judge.log", 65_536) if isinstance(row, ParsedRow)]
    return to_judge(rows, count, seed, spread=False)


TASKS = {"bgl": bgl, "demo": demo}


def main() -> None:
    """Run the tasks and print their figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=["qwen2.5-coder-0.5b"])
    parser.add_argument("-v", dest="verbose", action="store_true")
    parser.add_argument("--lines", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", choices=list(TASKS))
    parser.add_argument("--budget", type=int, default=400)
    parser.add_argument("--forms", action="store_true", help="without an adapter: the best of several prompts")
    options = parser.parse_args()
    for task in [options.only] if options.only else TASKS:
        if task == "bgl" and not BGL.is_file():
            print(f"{BGL} is not here")
            continue
        with tempfile.TemporaryDirectory() as folder, PrivateOllama(Path(folder)) as server:
            context = AppContext(Settings(home=Path(folder) / "home", model="none", cache=settings().cache))
            rows = TASKS[task](Path(folder), context, options.lines, options.seed)
            for name in options.models:
                _measure(server, context, task, name, rows, options)
            context.close()


def _measure(
    server: PrivateOllama, context: AppContext, task: str, name: str, rows: list[ParsedRow], options: argparse.Namespace
) -> None:
    """Choose a form of the prompt, create the model, and print how good its answers are."""
    weights = resolve(name, cache=settings().cache, offline=True)
    started = time.perf_counter()
    threads = settings().threads

    def model() -> LlamaCppBackend:
        return LlamaCppBackend(
            EmbeddedChatModel(
                model_path=weights.path,
                model_sha256=weights.sha256,
                context_tokens=CONTEXT_TOKENS,
                threads=threads,
            )
        )

    if options.forms:
        choice = tried(context.casebook, task, model, options.budget)
    else:
        local = LocalModel(weights.path, CONTEXT_TOKENS, threads)
        choice = adapted(context.casebook, task, local, options.budget)
    seconds = time.perf_counter() - started
    print(f"{task}, {name}: {choice.form}; {choice.figures}; {choice.why} ({seconds:.0f} s)", flush=True)
    made = f"precedent-{task}"
    modelfile = compose(context.casebook, task, str(weights.path), of_gguf(weights.path), choice)
    if threads:
        modelfile = replace(modelfile, parameters={**modelfile.parameters, "num_thread": threads})
    modelfile.create(server.host, made)
    figures = Figures()
    for row in rows:
        answer = server.run("run", made, row.record.text).stdout
        figures.add(row.record.text, row.label == "anomalous", True, answer)
        if options.verbose:
            print(f"  {row.label}: {row.record.text[:80]!r} -> {answer.strip()!r}", flush=True)
    print(f"  by `ollama run`: form kept in {figures.formed} of {figures.count}; {figures}", flush=True)


if __name__ == "__main__":
    main()
