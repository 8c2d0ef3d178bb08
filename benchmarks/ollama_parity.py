"""The same weights embedded and through Ollama: do verdicts agree, and what does the way through Ollama cost?

`python -m benchmarks.ollama_parity [MODEL]`: 200 records of the demo log (half of them labelled anomalous, each of
another template while there are enough), in one run on one machine: labels, log-odds, latency against a bare
`/api/generate` of the very same tokens, prompt tokens read, and throughput with several slots.
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
    intake, space = ReadOptions(format="log", label="0"), Representation()
    by_label: dict[str, list[str]] = {"normal": [], "anomalous": []}
    for name in ("judge.log", "learn.log"):
        for one in intake.read(POSTGRES / name, 65_536):
            if isinstance(one, ParsedRow) and one.label:
                by_label[one.label].append(space.masked(one.record))
    chosen = []
    for mine in by_label.values():
        distinct = list(dict.fromkeys(mine))
        chosen += random.Random(3).sample(distinct, min(RECORDS // 2, len(distinct)))
    rest = [text for mine in by_label.values() for text in dict.fromkeys(mine) if text not in set(chosen)]
    return chosen + rest[: RECORDS - len(chosen)]


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "qwen2.5-coder-0.5b"
    found = resolve(name, cache=settings().cache, offline=True)
    brief = (POSTGRES / "brief.txt").read_text(encoding="utf-8")
    records = texts()
    chat = EmbeddedChatModel(model_path=found.path, model_sha256=found.sha256, context_tokens=CONTEXT)
    embedded = LlamaCppBackend(chat)
    with tempfile.TemporaryDirectory() as folder:
        with PrivateOllama(Path(folder), OLLAMA_NUM_PARALLEL="1") as server:
            compose(None, None, str(found.path), of_gguf(found.path)).create(server.host, "parity")
            served = OllamaBackend.connect([server.host], "parity:base", context_tokens=CONTEXT, timeout=120)
            _agreement(embedded, served, brief, records)
            _labels(Path(folder) / "home", (f"embedded:{name}", "ollama:parity:base"), server.host, brief)
            _latency(server, served, brief, records[:TIMED])
        rates: dict[int, list[float]] = {slots: [] for slots in SLOTS}
        for _ in range(ROUNDS):
            # in turn, so that what else the machine does meets all of them
            for slots in SLOTS:
                with PrivateOllama(Path(folder), OLLAMA_NUM_PARALLEL=str(slots)) as server:
                    served = OllamaBackend.connect([server.host], "parity:base", context_tokens=CONTEXT, timeout=120)
                    rates[slots].append(_throughput(served, brief, records[:TIMED], slots))
        for slots, seen in rates.items():
            ratio = statistics.median(one / first for one, first in zip(seen, rates[SLOTS[0]], strict=True))
            print(
                f"OLLAMA_NUM_PARALLEL={slots}, {slots} at a time: {statistics.median(seen):.2f} verdicts/s "
                f"({min(seen):.2f} to {max(seen):.2f}), {ratio:.2f} of one slot (median of {ROUNDS} rounds)"
            )
    embedded.close()


def _agreement(embedded: LlamaCppBackend, served: OllamaBackend, brief: str, records: list[str]) -> None:
    here, there = (_log_odds(model, brief, records) for model in (embedded, served))
    whole = _read_whole(embedded.chat, brief, records)
    same = float(np.mean((here > 0) == (there > 0)))
    difference = np.abs(here - there)
    doubtful = np.abs(here[(here > 0) != (there > 0)])
    print(f"{len(records)} records: the model's own word leans the same way for {same:.1%}")
    print(f"  correlation of log-odds {np.corrcoef(here, there)[0, 1]:.4f} (target >= 0.99)")
    print(f"  difference of log-odds: median {np.median(difference):.3f}, largest {difference.max():.3f}")
    cut = np.abs(here - whole)
    print(
        f"  the same prompts embedded, read in one piece: median {np.median(cut):.3f}, largest {cut.max():.3f}, ",
        end="",
    )
    print(f"the same leaning for {np.mean((here > 0) == (whole > 0)):.1%}: what rounding alone does")
    if len(doubtful):
        print(f"  the {len(doubtful)} that lean the other way are at most {doubtful.max():.3f} from even odds")


def _log_odds(model: ChatBackend, brief: str, records: list[str]) -> NDArray[np.float64]:
    read = [model.answer_log_probabilities(build_messages(brief, text), ANSWERS) for text in ["N/A", *records]]
    asked = [each["anomalous"] - each["normal"] for each in read]
    return np.array(asked[1:]) - asked[0]


def _labels(home: Path, models: tuple[str, str], host: str, brief: str) -> None:
    """The labels that a person gets: the casebook of the log's first half, its second half judged by both models."""
    cache, intake = settings().cache, ReadOptions(format="log", label="0")
    given = []
    for model in models:
        context = AppContext(Settings(home=home, cache=cache, model=model, ollama_hosts=host))
        learn(context, [POSTGRES / "learn.log"], "postgres", intake, brief=brief, budget=LEARNED)
        seen: dict[str, Record] = {}
        for one in intake.read(POSTGRES / "judge.log", 65_536):
            if isinstance(one, ParsedRow):
                seen.setdefault(Representation().masked(one.record), one.record)
        asked = random.Random(4).sample(list(seen.values()), min(RECORDS, len(seen)))
        chain = build(context)
        given.append([chain.invoke(JudgeRequest.about(record, "postgres", explain="none")) for record in asked])
        context.close()
    here, there = given
    heard = sum(one.signals["language"] is not None for one in here)
    same = np.mean([one.label == other.label for one, other in zip(here, there, strict=True)])
    print(f"{len(here)} records of the second half, of other templates each, {heard} of them heard by the model:")
    print(f"  the same label for {same:.1%} (target >= 99 %)")


def _read_whole(chat: EmbeddedChatModel, brief: str, records: list[str]) -> NDArray[np.float64]:
    """The embedded engine's log-odds where prefix and record go through llama.cpp in one call instead of two."""
    engine = Engine(chat.weights, context_tokens=CONTEXT, threads=None)
    asked = []
    for text in ["N/A", *records]:
        prompt = chat.prompt(build_messages(brief, text))
        engine.read(Prompt((), prompt.prefix + prompt.suffix), lambda: False)
        read = read_answers(logprob_of(chat.weights, engine.logits(), TOP_LOGPROBS, ANSWERS), ANSWERS)
        asked.append(read["anomalous"] - read["normal"])
    engine.close()
    return np.array(asked[1:]) - asked[0]


def _latency(server: PrivateOllama, served: OllamaBackend, brief: str, records: list[str]) -> None:
    """Pairs, one after the other: each side sees each record for the first time in half of the pairs."""
    client = httpx.Client(base_url=f"http://{server.host}", timeout=120)
    ours: list[float] = []
    bare: list[float] = []
    read = []
    served.first_token(build_messages(brief, "N/A"))
    for i, text in enumerate(records):
        messages = build_messages(brief, text)
        raw = _rendered(client, messages)
        sides: list[tuple[list[float], Callable[[], Any]]] = [
            (ours, lambda messages=messages: served.first_token(messages)),  # type: ignore[misc]
            (bare, lambda raw=raw: _generate(client, raw)),  # type: ignore[misc]
        ]
        # what was read just now is in the server's cache: another question in between takes it out again
        for seconds, ask in sides[:: 1 if i % 2 else -1]:
            served.first_token(build_messages(brief, f"something else, number {i}"))
            started = time.perf_counter()
            answer = ask()
            seconds.append(time.perf_counter() - started)
        read.append(answer["prompt_eval_duration"] / 1e6)
    ratio = statistics.median(one / other for one, other in zip(ours, bare, strict=True))
    print(f"one verdict through Ollama: {1000 * statistics.median(ours):.0f} ms (median of {len(ours)})")
    print(f"  bare /api/generate of the same tokens: {1000 * statistics.median(bare):.0f} ms")
    print(f"  ratio {ratio:.2f} (median of pairs; target <= 1.20)")
    cold = _generate(client, "Something else entirely. " + _rendered(client, build_messages(brief, "another record")))
    print(
        f"  the prompt's prefix is kept: reading takes {statistics.median(read):.0f} ms, "
        f"{cold['prompt_eval_duration'] / 1e6:.0f} ms where nothing was kept ({cold['prompt_eval_count']} tokens)"
    )


def _throughput(served: OllamaBackend, brief: str, records: list[str], slots: int) -> float:
    """Verdicts a second with ``slots`` questions under way at a time."""
    # each slot reads the prefix once
    with concurrent.futures.ThreadPoolExecutor(slots) as pool:
        list(pool.map(lambda i: served.first_token(build_messages(brief, f"warm {i}")), range(2 * slots)))
        started = time.perf_counter()
        list(pool.map(lambda text: served.first_token(build_messages(brief, text)), records))
    return len(records) / (time.perf_counter() - started)


def _rendered(client: httpx.Client, messages: list[Any]) -> str:
    talk = [
        {"role": "system" if message.type == "system" else "user", "content": str(message.content)}
        for message in messages
    ]
    asked = {"model": "parity:base", "messages": talk, "stream": False, "_debug_render_only": True}
    return str(client.post("/api/chat", json=asked).json()["_debug_info"]["rendered_template"])


def _generate(client: httpx.Client, raw: str) -> dict[str, Any]:
    options = {"num_predict": 1, "temperature": 0, "seed": 0, "num_ctx": CONTEXT}
    asked = {"model": "parity:base", "prompt": raw, "raw": True, "stream": False, "options": options}
    answer: dict[str, Any] = client.post("/api/generate", json={**asked, "keep_alive": "10m"}).json()
    return answer


if __name__ == "__main__":
    main()
