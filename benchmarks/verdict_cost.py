"""The cost of a verdict, as ratios within one run: `make bench`.

With the language model: against a bare `llama_decode` of the same new tokens, alternating, in the same process and on
the same weights. Without it: milliseconds of one verdict, warm.
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
from benchmarks.bare_llm import BareEngine
from retrieval.encoding.representation import Representation

_FOLDER = Path(__file__).resolve().parents[1] / "examples" / "postgres"
_RECORDS = 40
_WARM = 3
T = TypeVar("T")


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        context = AppContext(Settings(home=Path(home), model="embedded:qwen2.5-coder-0.5b", cache=settings().cache))
        options = ReadOptions(format="log", label="0", normal=("-",))
        brief = (_FOLDER / "brief.txt").read_text(encoding="utf-8")
        learn(context, [_FOLDER / "learn.log"], "postgres", options, brief=brief, budget=0)
        rows = [row for row in options.read(_FOLDER / "judge.log", 65_536) if isinstance(row, ParsedRow)]
        texts = list({Representation().masked(row.record): row.record.text for row in rows}.values())
        _measure(context, texts)
        context.close()


def _measure(context: AppContext, texts: list[str]) -> None:
    chain = build(context)
    bare = BareEngine(context, "postgres")
    with_llm: list[tuple[float, float, int]] = []
    without_llm: list[float] = []
    for text in texts:
        if len(with_llm) >= _RECORDS + _WARM:
            break
        seconds, verdict = _timed(partial(chain.invoke, JudgeRequest(text=text, source="postgres")))
        if verdict.signals["language"] is None:
            without_llm.append(seconds)
            continue
        with_llm.append((seconds, *bare.decode(verdict.record)))
    with_llm = with_llm[_WARM:]
    ratio = statistics.median(own / bare for own, bare, _ in with_llm)
    own_seconds, bare_seconds, tokens = (statistics.median(column) for column in zip(*with_llm, strict=True))
    print(f"verdicts by the language model: {len(with_llm)}, median {tokens:.0f} new tokens")
    print(f"  own   {1000 * own_seconds:8.1f} ms (median)")
    print(f"  bare  {1000 * bare_seconds:8.1f} ms (llama_decode of the same tokens)")
    print(f"  ratio {ratio:8.2f} (median of pairs; target <= 1.30)")
    without_llm = without_llm[_WARM:]
    print(f"verdicts without the language model: {len(without_llm)}")
    median, p95 = 1000 * statistics.median(without_llm), 1000 * _p95(without_llm)
    print(f"  median {median:.1f} ms, p95 {p95:.1f} ms (target <= 30 ms)")


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def _p95(values: list[float]) -> float:
    return sorted(values)[max(0, int(0.95 * len(values)) - 1)]


if __name__ == "__main__":
    main()
