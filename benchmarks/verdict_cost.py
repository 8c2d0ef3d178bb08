"""What a verdict costs, as ratios of one run: `make bench`.

With the language model: against a bare `llama_decode` of the same new tokens, in the same process and on the same
weights, in turn. Without it: milliseconds of one verdict, warm.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.core.requests import JudgeRequest
from agent.core.settings import Settings, settings
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.learn import learn
from benchmarks.bare_llm import Bare
from retrieval.encoding.representation import Representation

_FOLDER = Path(__file__).resolve().parents[1] / "examples" / "postgres"
_RECORDS = 40
_WARM = 3
T = TypeVar("T")


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        chosen = Settings(home=Path(home), model="embedded:qwen2.5-coder-0.5b", cache=settings().cache)
        context = AppContext(chosen)
        intake = ReadOptions(format="log", label="0", normal=("-",))
        brief = (_FOLDER / "brief.txt").read_text(encoding="utf-8")
        learn(context, [_FOLDER / "learn.log"], "postgres", intake, brief=brief, budget=0)
        readings = [one for one in intake.read(_FOLDER / "judge.log", 65_536) if isinstance(one, ParsedRow)]
        texts = list({Representation().masked(one.record): one.record.text for one in readings}.values())
        _measure(context, texts)
        context.close()


def _measure(context: AppContext, texts: list[str]) -> None:
    chain = build(context)
    bare = Bare(context, "postgres")
    heard: list[tuple[float, float, int]] = []
    unheard: list[float] = []
    for text in texts:
        if len(heard) >= _RECORDS + _WARM:
            break
        seconds, verdict = _timed(partial(chain.invoke, JudgeRequest(text=text, source="postgres")))
        if verdict.signals["language"] is None:
            unheard.append(seconds)
            continue
        heard.append((seconds, *bare.decode(verdict.record)))
    heard = heard[_WARM:]
    ratio = statistics.median(ours / bare for ours, bare, _ in heard)
    print(
        f"verdicts by the language model: {len(heard)}, median {statistics.median(t for *_, t in heard):.0f} new tokens"
    )
    print(f"  ours  {1000 * statistics.median(ours for ours, *_ in heard):8.1f} ms (median)")
    print(f"  bare  {1000 * statistics.median(bare for _, bare, _ in heard):8.1f} ms (llama_decode of the same tokens)")
    print(f"  ratio {ratio:8.2f} (median of pairs; target <= 1.30)")
    unheard = unheard[_WARM:]
    print(f"verdicts without the language model: {len(unheard)}")
    print(f"  median {1000 * statistics.median(unheard):.1f} ms, p95 {1000 * _p95(unheard):.1f} ms (target <= 30 ms)")


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def _p95(values: list[float]) -> float:
    return sorted(values)[max(0, int(0.95 * len(values)) - 1)]


if __name__ == "__main__":
    main()
