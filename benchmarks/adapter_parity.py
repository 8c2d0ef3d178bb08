"""An adapter trained here: does it change answers in llama.cpp and in Ollama as it does in PyTorch?

`python -m benchmarks.adapter_parity [MODEL]`: an adapter is trained on 64 records of the demo log, and 100 others are
asked about: in transformers with PEFT, in llama.cpp with the adapter's GGUF file, and in a real Ollama whose model has
it as ADAPTER (where there is a binary, see `benchmarks.private_ollama`).
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.core.settings import settings
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.detectors.language import ANSWERS, build_messages
from agent.training.lora_network import LoraNetwork, LoraOptions
from agent.training.lora_trainer import LoraTraining
from agent.training.ollama_export import of_gguf
from benchmarks.private_ollama import PrivateOllama, binary
from llm.base import ChatBackend
from llm.llamacpp.adapter import adapter_file
from llm.llamacpp.backend import LlamaCppBackend
from llm.llamacpp.chat_model import EmbeddedChatModel
from llm.llamacpp.chat_template import Prompt
from llm.ollama.backend import OllamaBackend
from llm.ollama.modelfile import Modelfile
from llm.weights.checksum import sha256_of
from llm.weights.resolver import resolve
from retrieval.arrays import Floats
from retrieval.encoding.representation import Representation

POSTGRES = Path(__file__).resolve().parents[1] / "examples" / "postgres"
TRAINED, ASKED, CONTEXT = 64, 100, 4096


def labelled() -> tuple[list[str], NDArray[np.bool_]]:
    """Masked texts, each of another template, half of them of anomalous lines while there are enough."""
    options, representation = ReadOptions(format="log", label="0"), Representation()
    found: dict[str, bool] = {}
    for name in ("judge.log", "learn.log"):
        for row in options.read(POSTGRES / name, 65_536):
            if isinstance(row, ParsedRow) and row.label:
                found.setdefault(representation.masked(row.record), row.label == "anomalous")
    by_label = [[text for text, label in found.items() if label is wanted] for wanted in (True, False)]
    for texts in by_label:
        random.Random(3).shuffle(texts)
    rarer = min(len(by_label[0]), (TRAINED + ASKED) // 2)
    chosen = by_label[0][:rarer] + by_label[1][: TRAINED + ASKED - rarer]
    random.Random(4).shuffle(chosen)
    return chosen, np.array([found[text] for text in chosen])


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "qwen2.5-coder-0.5b"
    resolved = resolve(name, cache=settings().cache, offline=True)
    threads = settings().threads
    brief = (POSTGRES / "brief.txt").read_text(encoding="utf-8")
    texts, anomalous = labelled()
    chat = EmbeddedChatModel(
        model_path=resolved.path, model_sha256=resolved.sha256, model=name, context_tokens=CONTEXT, threads=threads
    )
    base = LlamaCppBackend(chat)
    network = LoraNetwork(chat.weights, LoraOptions(), ANSWERS)
    prompts = [chat.prompt(build_messages(brief, text)) for text in texts]
    judged, labels = texts[TRAINED:], anomalous[TRAINED:]
    with tempfile.TemporaryDirectory() as folder:
        training = LoraTraining(
            network, prompts[:TRAINED], anomalous[:TRAINED], LoraOptions(), Path(folder),
            lambda task, done, total: None, print,
        )  # fmt: skip
        started = time.perf_counter()
        steps = training.run()
        print(f"{name}: {steps} steps in {time.perf_counter() - started:.0f} s")
        # the answers are compared in the precision of the other engines
        network.model.float()
        with network.model.disable_adapter():
            before = in_transformers(network, prompts[TRAINED:])
        reference = in_transformers(network, prompts[TRAINED:])
        file = Path(folder) / "adapter.gguf"
        file.write_bytes(adapter_file(network.architecture, network.additions()))
        found = {
            "transformers, without": before,
            "transformers, with": reference,
            "llama.cpp, without": log_odds(base, brief, judged),
            "llama.cpp, with": log_odds(base.with_adapter(file, sha256_of(file), resolved.sha256), brief, judged),
        }
        if binary() is None:
            print("Ollama: no binary here (OLLAMA_BIN)")
        else:
            with PrivateOllama(Path(folder), OLLAMA_NUM_PARALLEL="1") as server:
                modelfile = Modelfile(str(resolved.path), "", of_gguf(resolved.path), adapter=file.read_bytes())
                modelfile.create(server.host, "parity")
                served = OllamaBackend.connect(
                    [server.host], "parity", context_tokens=CONTEXT, timeout=120, threads=threads
                )
                assert served.adapter_sha256 == sha256_of(file)
                found["Ollama, with"] = log_odds(served, brief, judged)
        print("the adapter; compared with transformers with it:")
        for name, values in found.items():
            compare(name, values, reference, labels)
    base.close()


def in_transformers(network: LoraNetwork, prompts: Sequence[Prompt]) -> Floats:
    """Log-odds by PyTorch, shape (n,)."""
    import torch

    prefix, rows = network.lower(prompts, 8, lambda done: None)
    with torch.inference_mode():
        parts = [network.log_odds(prefix, rows[start : start + 8])[0] for start in range(0, len(rows), 8)]
    return np.asarray(torch.cat(parts).double().cpu().numpy())


def log_odds(model: ChatBackend, brief: str, texts: list[str]) -> Floats:
    """Log-odds by an engine, shape (n,)."""
    answers = [model.answer_log_probabilities(build_messages(brief, text), ANSWERS) for text in texts]
    return np.array([answer["anomalous"] - answer["normal"] for answer in answers])


def compare(name: str, found: Floats, reference: Floats, anomalous: NDArray[np.bool_]) -> None:
    from sklearn.metrics import roc_auc_score

    auc = roc_auc_score(anomalous, found)
    correlation = np.corrcoef(found, reference)[0, 1]
    same, difference = np.mean((found > 0) == (reference > 0)), np.abs(found - reference)
    print(
        f"{name:22} the same leaning on {same:6.1%} of {len(found)}, correlation {correlation:.3f}, "
        f"log-odds differ by {np.median(difference):.3f} (median), {difference.max():.3f} (most); anomalous for "
        f"{np.mean(found > 0):.0%}, AUC {auc:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
