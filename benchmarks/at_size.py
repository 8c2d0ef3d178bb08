"""A large casebook: what `benchmarks.speed` measures of it, each in a process of its own.

`python -m benchmarks.at_size bare TEXTS` encodes them as sentence-transformers does by itself; `query HOME TEXTS`
searches for each in the source `big` of the data directory HOME.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import numpy as np

from agent.core.records import Record
from agent.core.settings import settings
from agent.pipeline.context import AppContext
from benchmarks import bgl
from retrieval.types import LABELS

SOURCE = "big"
_NEAREST, _WORDS, _DISTINCT = 8, 3, 100_000
# words of a BGL line in front of its message, with the label
_HEAD = 9


def reworded(log: Path, count: int, seed: int) -> list[str]:
    """``count`` lines of ``log``, in each up to three words replaced by other words of the log's messages.

    After 100,000 of them the same lines repeat with other numbers: embedding a million would take an hour.
    """
    rng, lines = random.Random(seed), log.read_text(encoding="utf-8").splitlines()
    vocabulary = sorted({word for line in lines for word in line.split()[_HEAD:] if word.isalpha()})
    reworded_lines = []
    for number in range(min(count, _DISTINCT)):
        words = lines[number % len(lines)].split()
        for _ in range(_WORDS):
            words[rng.randrange(min(_HEAD, len(words) - 1), len(words))] = rng.choice(vocabulary)
        reworded_lines.append(" ".join(words))
    return reworded_lines + [bgl.varied(reworded_lines[number % _DISTINCT], rng) for number in range(_DISTINCT, count)]


def bare(texts: list[str]) -> dict[str, float]:
    """Texts a second of sentence-transformers' own `encode`."""
    from sentence_transformers import SentenceTransformer

    folder = AppContext(settings()).embedder().folder
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    model.encode(texts[:64])
    started = time.perf_counter()
    model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    return {"rate": len(texts) / (time.perf_counter() - started)}


def query(home: Path, texts: list[str]) -> dict[str, float]:
    """Milliseconds of a query with and without the text's stored vector; recall against exact search."""
    context = AppContext(settings().model_copy(update={"home": home}))
    casebook, row = context.casebook, context.source(SOURCE)
    records = [Record(text=text) for text in texts]
    half = len(records) // 2
    casebook.find(SOURCE, records[0], records[0].content_hash, _NEAREST)

    def milliseconds(queried: list[Record]) -> float:
        durations = []
        for record in queried:
            started = time.perf_counter()
            casebook.find(SOURCE, record, record.content_hash, context.settings.precedents)
            durations.append(1000 * (time.perf_counter() - started))
        return float(np.quantile(durations, 0.95))

    new = milliseconds(records[:half])
    vectors = casebook.vectors(row, records)
    stored = milliseconds(records[half:])
    hits, relevant = 0, 0
    for label in LABELS:
        keys, matrix = casebook.matrix(row, label)
        retrieved = casebook.nearest_keys(row, label, np.stack(vectors), _NEAREST)
        for vector, keys_found in zip(vectors, retrieved, strict=True):
            exact = {keys[i] for i in np.argsort(-(matrix @ vector))[:_NEAREST]}
            hits += len(exact & set(keys_found))
            relevant += len(exact)
    templates = sum(len(casebook.matrix(row, label)[0]) for label in LABELS)
    context.close()
    return {"new": new, "stored": stored, "recall": hits / relevant, "templates": templates}


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    texts = Path(paths[-1]).read_text(encoding="utf-8").splitlines()
    print(json.dumps(bare(texts) if command == "bare" else query(Path(paths[0]), texts)))
