"""`ollama run` alone, with no Python: does a small model keep to the form, and how often is it right?

BGL_2k: cases hold 60 % of the templates; 40 lines of the other templates are judged, 20 of them anomalous, each of
another template as far as there are enough. `python -m benchmarks.ollama_run [-v] [MODEL …]`, catalog names.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from agent.core.settings import Settings, settings
from agent.data.readers import ParsedRow
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from agent.training.ollama_export import compose, of_gguf, parsed
from benchmarks.bgl import BGL, BRIEF, INTAKE, halves
from benchmarks.private_ollama import PrivateOllama
from llm.weights.resolver import resolve
from retrieval.encoding.representation import Representation

SEED = 7


def to_judge(unseen: list[ParsedRow]) -> list[ParsedRow]:
    """40 readings, 20 of each label, spread over the templates."""
    chosen: list[ParsedRow] = []
    for label in ("anomalous", "normal"):
        mine = [one for one in unseen if one.label == label]
        random.Random(SEED).shuffle(mine)
        space = Representation()
        by_template: dict[str, list[ParsedRow]] = {}
        for one in mine:
            by_template.setdefault(space.masked(one.record), []).append(one)
        queue = [stack[i] for i in range(20) for stack in by_template.values() if i < len(stack)]
        chosen += queue[:20]
    return chosen


def main() -> None:
    if not BGL.is_file():
        sys.exit(f"{BGL} is not here")
    names = [name for name in sys.argv[1:] if name != "-v"] or ["qwen2.5-coder-0.5b"]
    cases, unseen = halves(SEED)
    asked = to_judge(unseen)
    with tempfile.TemporaryDirectory() as folder, PrivateOllama(Path(folder)) as server:
        context = AppContext(Settings(home=Path(folder) / "home", model="none", cache=settings().cache))
        learned = Path(folder) / "cases.csv"
        learned.write_text(
            "Label,Content\n"
            + "".join(f'{"-" if one.label == "normal" else "X"},"{_csv(one.record.text)}"\n' for one in cases),
            encoding="utf-8",
        )
        learn(context, [learned], "bgl", INTAKE, brief=BRIEF, budget=0)
        for name in names:
            path = resolve(name, cache=settings().cache, offline=True).path
            compose(context.casebook, "bgl", str(path), of_gguf(path)).create(server.host, "precedent-bgl")
            formed = right = found = 0
            for one in asked:
                answer = server.run("run", "precedent-bgl", one.record.text).stdout
                verdict = parsed(answer)
                formed += verdict is not None
                right += verdict is not None and verdict[0] == one.label
                found += verdict is not None and verdict[0] == one.label == "anomalous"
                if "-v" in sys.argv or verdict is None:
                    print(f"  {one.label}: {one.record.text[:80]!r} -> {answer.strip()!r}")
            print(f"{name}: form kept in {formed} of {len(asked)}; right in {right} of {len(asked)}", end="; ")
            print(f"{found} of 20 anomalous found")
        context.close()


def _csv(text: str) -> str:
    return text.replace('"', '""')


if __name__ == "__main__":
    main()
