"""The same weights embedded and through Ollama: do verdicts agree, and what does Ollama cost?

`python -m benchmarks.ollama_parity [MODEL]`: 200 records of the demo log (half of them labelled anomalous, each of
another template while there are enough), in one run on one machine: labels, log-odds, latency against a bare
`/api/generate` of the same tokens, prompt tokens read, and throughput with several slots.
"""

from __future__ import annotations

import concurrent.futures
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from agent.core.records import Record
from agent.core.requests import JudgeRequest
from agent.core.settings import Settings, settings
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.detectors.language import build_messages
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.learn import learn
from agent.training.ollama_export import compose, of_gguf
from benchmarks.private_ollama import PrivateOllama
from llm.base import TOP_LOGPROBS, ChatBackend, read_answers
from llm.llamacpp.backend import LlamaCppBackend
from llm.llamacpp.chat_model import EmbeddedChatModel
from llm.llamacpp.chat_template import Prompt
from llm.llamacpp.engine import Engine
from llm.llamacpp.generation import logprob_of
from llm.ollama.backend import OllamaBackend
from llm.weights.resolver import resolve
from retrieval.encoding.representation import Representation

POSTGRES = Path(__file__).resolve().parents[1] / "examples" / "postgres"
RECORDS, TIMED, SLOTS, ROUNDS, LEARNED = 200, 40, (1, 2, 4), 3, 48
CONTEXT = 4096
ANSWERS = ("anomalous", "normal")


def texts() -> list[str]:
    """Masked texts, half of them of anomalous lines."""
    options, representation = ReadOptions(format="log", label="0"), Representation()
    by_label: dict[str, list[str]] = {"normal": [], "anomalous": []}
    for name in ("judge.log", "learn.log"):
        for row in options.read(POSTGRES / name, 65_536):
            if isinstance(row, ParsedRow) and row.label:
                by_label[row.label].append(representation.masked(row.record))
    chosen = []
    for of_label in by_label.values():
        distinct = list(dict.fromkeys(of_label))
        chosen += random.Random(3).sample(distinct, min(RECORDS // 2, len(distinct)))
    rest = [text for of_label in by_label.values() for text in dict.fromkeys(of_label) if text not in set(chosen)]
    return chosen + rest[: RECORDS - len(chosen)]


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "qwen2.5-coder-0.5b"
    resolved = resolve(name, cache=settings().cache, offline=True)
    brief = (POSTGRES / "brief.txt").read_text(encoding="utf-8")
    records = texts()
    chat = EmbeddedChatModel(model_path=resolved.path, model_sha256=resolved.sha256, context_tokens=CONTEXT)
    embedded = LlamaCppBackend(chat)
    with tempfile.TemporaryDirectory() as folder:
        with PrivateOllama(Path(folder), OLLAMA_NUM_PARALLEL="1") as server:
            compose(None, None, str(resolved.path), of_gguf(resolved.path)).create(server.host, "parity")
            served = OllamaBackend.connect([server.host], "parity:base", context_tokens=CONTEXT, timeout=120)
            _agreement(embedded, served, brief, records)
            _labels(Path(folder) / "home", (f"embedded:{name}", "ollama:parity:base"), server.host, brief)
            _latency(server, served, brief, records[:TIMED])
        rates: dict[int, list[float]] = {slots: [] for slots in SLOTS}
        for _ in range(ROUNDS):
            # alternating, so that other load on the machine affects all of them
            for slots in SLOTS:
                with PrivateOllama(Path(folder), OLLAMA_NUM_PARALLEL=str(slots)) as server:
                    served = OllamaBackend.connect([server.host], "parity:base", context_tokens=CONTEXT, timeout=120)
                    rates[slots].append(_throughput(served, brief, records[:TIMED], slots))
        for slots, measured in rates.items():
            ratio = statistics.median(rate / first for rate, first in zip(measured, rates[SLOTS[0]], strict=True))
            print(
                f"OLLAMA_NUM_PARALLEL={slots}, {slots} at a time: {statistics.median(measured):.2f} verdicts/s "
                f"({min(measured):.2f} to {max(measured):.2f}), {ratio:.2f} of one slot (median of {ROUNDS} rounds)"
            )
    embedded.close()


def _agreement(embedded: LlamaCppBackend, served: OllamaBackend, brief: str, records: list[str]) -> None:
    by_engine, by_ollama = (_log_odds(model, brief, records) for model in (embedded, served))
    in_one_call = _log_odds_in_one_call(embedded.chat, brief, records)
    agrees = (by_engine > 0) == (by_ollama > 0)
    difference = np.abs(by_engine - by_ollama)
    doubtful = np.abs(by_engine[~agrees])
    print(f"{len(records)} records: the model's first token has the same label for {np.mean(agrees):.1%}")
    print(f"  correlation of log-odds {np.corrcoef(by_engine, by_ollama)[0, 1]:.4f} (target >= 0.99)")
    print(f"  difference of log-odds: median {np.median(difference):.3f}, largest {difference.max():.3f}")
    rounding = np.abs(by_engine - in_one_call)
    print(
        f"  the same prompts embedded, decoded in one call: median {np.median(rounding):.3f}, largest "
        f"{rounding.max():.3f}, the same label for {np.mean((by_engine > 0) == (in_one_call > 0)):.1%}: the effect of "
        "rounding"
    )
    if len(doubtful):
        print(f"  the log-odds of the {len(doubtful)} with another label are at most {doubtful.max():.3f}")


def _log_odds(model: ChatBackend, brief: str, records: list[str]) -> NDArray[np.float64]:
    answers = [model.answer_log_probabilities(build_messages(brief, text), ANSWERS) for text in ["N/A", *records]]
    log_odds = [answer["anomalous"] - answer["normal"] for answer in answers]
    return np.array(log_odds[1:]) - log_odds[0]


def _labels(home: Path, models: tuple[str, str], host: str, brief: str) -> None:
    """The labels of verdicts: the log's first half is learned, its second half is judged with both models."""
    cache, options = settings().cache, ReadOptions(format="log", label="0")
    by_model = []
    for model in models:
        context = AppContext(Settings(home=home, cache=cache, model=model, ollama_hosts=host))
        learn(context, [POSTGRES / "learn.log"], "postgres", options, brief=brief, budget=LEARNED)
        by_template: dict[str, Record] = {}
        for row in options.read(POSTGRES / "judge.log", 65_536):
            if isinstance(row, ParsedRow):
                by_template.setdefault(Representation().masked(row.record), row.record)
        judged = random.Random(4).sample(list(by_template.values()), min(RECORDS, len(by_template)))
        chain = build(context)
        by_model.append([chain.invoke(JudgeRequest.about(record, "postgres", explain="none")) for record in judged])
        context.close()
    pairs = list(zip(*by_model, strict=True))
    queried = sum(embedded.signals["language"] is not None for embedded, _ in pairs)
    same = np.mean([embedded.label == served.label for embedded, served in pairs])
    print(f"{len(pairs)} records of the second half, each of another template, the model queried on {queried} of them:")
    print(f"  the same label for {same:.1%} (target >= 99 %)")


def _log_odds_in_one_call(chat: EmbeddedChatModel, brief: str, records: list[str]) -> NDArray[np.float64]:
    """The embedded engine's log-odds when prefix and record are decoded in one call instead of two."""
    engine = Engine(chat.weights, context_tokens=CONTEXT, threads=None)
    log_odds = []
    for text in ["N/A", *records]:
        prompt = chat.prompt(build_messages(brief, text))
        engine.read(Prompt((), prompt.prefix + prompt.suffix), lambda: False)
        answers = read_answers(logprob_of(chat.weights, engine.logits(), TOP_LOGPROBS, ANSWERS), ANSWERS)
        log_odds.append(answers["anomalous"] - answers["normal"])
    engine.close()
    return np.array(log_odds[1:]) - log_odds[0]


def _latency(server: PrivateOllama, served: OllamaBackend, brief: str, records: list[str]) -> None:
    """Alternating pairs: each side gets each record first in half of the pairs."""
    client = httpx.Client(base_url=f"http://{server.host}", timeout=120)
    ours: list[float] = []
    bare: list[float] = []
    prefill = []
    served.first_token(build_messages(brief, "N/A"))
    for i, text in enumerate(records):
        messages = build_messages(brief, text)
        raw = _rendered(client, messages)
        sides: list[tuple[list[float], Callable[[], Any]]] = [
            (ours, lambda messages=messages: served.first_token(messages)),  # type: ignore[misc]
            (bare, lambda raw=raw: _generate(client, raw)),  # type: ignore[misc]
        ]
        # the server caches the last prompt: another one in between replaces it
        for seconds, call in sides[:: 1 if i % 2 else -1]:
            served.first_token(build_messages(brief, f"something else, number {i}"))
            started = time.perf_counter()
            reply = call()
            seconds.append(time.perf_counter() - started)
        prefill.append(reply["prompt_eval_duration"] / 1e6)
    ratio = statistics.median(own / other for own, other in zip(ours, bare, strict=True))
    print(f"one verdict through Ollama: {1000 * statistics.median(ours):.0f} ms (median of {len(ours)})")
    print(f"  bare /api/generate of the same tokens: {1000 * statistics.median(bare):.0f} ms")
    print(f"  ratio {ratio:.2f} (median of pairs; target <= 1.20)")
    cold = _generate(client, "Something else entirely. " + _rendered(client, build_messages(brief, "another record")))
    print(
        f"  prefill with the prompt's prefix cached: {statistics.median(prefill):.0f} ms, "
        f"{cold['prompt_eval_duration'] / 1e6:.0f} ms with nothing cached ({cold['prompt_eval_count']} tokens)"
    )


def _throughput(served: OllamaBackend, brief: str, records: list[str], slots: int) -> float:
    """Verdicts a second with ``slots`` concurrent requests."""
    # each slot caches the prefix first
    with concurrent.futures.ThreadPoolExecutor(slots) as pool:
        list(pool.map(lambda i: served.first_token(build_messages(brief, f"warm {i}")), range(2 * slots)))
        started = time.perf_counter()
        list(pool.map(lambda text: served.first_token(build_messages(brief, text)), records))
    return len(records) / (time.perf_counter() - started)


def _rendered(client: httpx.Client, messages: list[Any]) -> str:
    conversation = [
        {"role": "system" if message.type == "system" else "user", "content": str(message.content)}
        for message in messages
    ]
    body = {"model": "parity:base", "messages": conversation, "stream": False, "_debug_render_only": True}
    return str(client.post("/api/chat", json=body).json()["_debug_info"]["rendered_template"])


def _generate(client: httpx.Client, raw: str) -> dict[str, Any]:
    options = {"num_predict": 1, "temperature": 0, "seed": 0, "num_ctx": CONTEXT}
    body = {"model": "parity:base", "prompt": raw, "raw": True, "stream": False, "options": options}
    reply: dict[str, Any] = client.post("/api/generate", json={**body, "keep_alive": "10m"}).json()
    return reply


if __name__ == "__main__":
    main()
