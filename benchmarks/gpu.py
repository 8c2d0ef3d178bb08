"""What a GPU gives: texts embedded, records judged and tokens read a second, beside the processor's.

`python -m benchmarks.gpu` takes a few minutes on a machine with a GPU; without one it prints the processor's
figures alone. llama.cpp uses a GPU where it was built for one:
``CMAKE_ARGS=-DGGML_CUDA=on pip install --force-reinstall --no-cache-dir llama-cpp-python``.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import llama_cpp
import torch

from agent.core.records import Record
from agent.core.settings import Settings, settings
from agent.data.read_options import ReadOptions
from agent.detectors.contrib.resources import chosen_device
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.learn import learn
from llm.llamacpp.chat_template import Prompt
from llm.llamacpp.engine import Engine
from llm.llamacpp.gguf import Weights
from llm.weights.catalog import default_model
from llm.weights.resolver import resolve
from retrieval.encoding.text_embedder import Embedder

POSTGRES = Path(__file__).resolve().parents[1] / "examples" / "postgres"
# seconds that one measurement takes, about, and how much is tried first
_SECONDS, _FIRST = 20.0, 64
_PROMPT_TOKENS, _CONTEXT = 512, 1024
_WORDS = (POSTGRES / "brief.txt").read_text(encoding="utf-8").split()
Rate = Callable[[int], float]


def texts(count: int, seed: int) -> list[str]:
    """Texts of 8 to 24 words, no two of one template."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(_WORDS, k=draw.randint(8, 24))) for _ in range(count)]


def rate(seconds_of: Rate) -> float:
    """How many items a second: few first, then as many as take `_SECONDS`."""
    seconds_of(_FIRST)
    first = seconds_of(_FIRST)
    count = max(_FIRST, min(200_000, round(_FIRST * _SECONDS / first)))
    return count / seconds_of(count)


def embedding(device: str) -> Rate:
    """Seconds for a number of texts to be embedded."""
    chosen = settings()
    embedder = Embedder(resolve(chosen.embedder, cache=chosen.cache, offline=chosen.offline).path, device)

    def seconds_of(count: int) -> float:
        drawn = texts(count, count)
        started = time.perf_counter()
        embedder.encode(drawn)
        return time.perf_counter() - started

    return seconds_of


def judging(device: str, home: Path) -> Iterator[Rate]:
    """Seconds for a number of records of new templates to be judged, without the language model."""
    context = AppContext(Settings(home=home / device, cache=settings().cache, model="none", device=device))
    learn(context, [POSTGRES / "learn.log"], "postgres", ReadOptions(format="log", label="0"), brief="PostgreSQL")
    chain, drawn = build(context), iter(range(1 << 30))

    def seconds_of(count: int) -> float:
        records = [Record(text=text) for text in texts(count, next(drawn))]
        started = time.perf_counter()
        for _ in judge_many(context, chain, records, "postgres", "none", keep=False):
            pass
        return time.perf_counter() - started

    yield seconds_of
    context.close()


def reading(gpu_layers: int | None) -> Rate:
    """Seconds for a number of tokens to be read by the embedded language model, in prompts of 512."""
    chosen = settings()
    model = resolve(default_model(), cache=chosen.cache, offline=chosen.offline)
    weights = Weights(model.path, gpu_layers=gpu_layers)
    engine = Engine(weights, context_tokens=_CONTEXT, threads=None)
    tokens = weights.tokenize(" ".join(_WORDS * 50), special=False)

    def seconds_of(count: int) -> float:
        prompts = max(1, count // _PROMPT_TOKENS)
        started = time.perf_counter()
        for number in range(prompts):
            first = number % max(1, len(tokens) - _PROMPT_TOKENS)
            engine.read(Prompt((), tuple(tokens[first : first + _PROMPT_TOKENS])), lambda: False)
            engine.logits()
        return (time.perf_counter() - started) * count / (prompts * _PROMPT_TOKENS)

    return seconds_of


def main() -> None:
    gpu = chosen_device("auto")
    devices = ["cpu"] if gpu == "cpu" else ["cpu", gpu]
    if gpu == "cpu":
        print("PyTorch finds no GPU on this machine: the processor's figures alone")
    else:
        print(f"GPU: {torch.cuda.get_device_name() if gpu == 'cuda' else gpu}")
    rows: dict[str, list[float]] = {"texts embedded a second": [rate(embedding(device)) for device in devices]}
    with tempfile.TemporaryDirectory() as folder:
        rows["records of new templates judged a second"] = [
            rate(seconds_of) for device in devices for seconds_of in judging(device, Path(folder))
        ]
    has_gpu = llama_cpp.llama_supports_gpu_offload()
    name = f"tokens read a second ({default_model()})"
    rows[name] = [rate(reading(layers)) for layers in ([0, None] if has_gpu else [0])]
    if not has_gpu:
        print("llama.cpp was built without a GPU (see above how to build it): the processor's figure alone")
    for name, rates in rows.items():
        beside = f", {gpu} {rates[1]:,.0f} ({rates[1] / rates[0]:.1f} x)" if len(rates) > 1 else ""
        print(f"{name}: cpu {rates[0]:,.0f}{beside}")


if __name__ == "__main__":
    main()
