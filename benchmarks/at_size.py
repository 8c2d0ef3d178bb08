"""A large casebook: what `benchmarks.speed` measures of it, each in a process of its own.

`python -m benchmarks.at_size bare TEXTS` encodes them as sentence-transformers does by itself; `query HOME TEXTS` looks
for each in the source `big` of the data directory HOME.
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
_NEAREST, _WORDS, _OWN = 8, 3, 100_000
# words of a BGL line in front of its message, with the label
_HEAD = 9


def reworded(log: Path, count: int, seed: int) -> list[str]:
    """So many lines of ``log``, in each up to three words of the message another word of the log's messages.

    After 100,000 of them the same come again with other numbers: embedding a million would take an hour.
    """
    rng, lines = random.Random(seed), log.read_text(encoding="utf-8").splitlines()
    vocabulary = sorted({word for line in lines for word in line.split()[_HEAD:] if word.isalpha()})
    out = []
    for number in range(min(count, _OWN)):
        words = lines[number % len(lines)].split()
        for _ in range(_WORDS):
            words[rng.randrange(min(_HEAD, len(words) - 1), len(words))] = rng.choice(vocabulary)
        out.append(" ".join(words))
    return out + [bgl.varied(out[number % _OWN], rng) for number in range(_OWN, count)]


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
    """Milliseconds of a query, the text's vector being there and not; recall against exact search."""
    context = AppContext(settings().model_copy(update={"home": home}))
    casebook, row = context.casebook, context.source(SOURCE)
    records = [Record(text=text) for text in texts]
    half = len(records) // 2
    casebook.find(SOURCE, records[0], records[0].content_hash, _NEAREST)

    def milliseconds(some: list[Record]) -> float:
        took = []
        for record in some:
            started = time.perf_counter()
            casebook.find(SOURCE, record, record.content_hash, context.settings.precedents)
            took.append(1000 * (time.perf_counter() - started))
        return float(np.quantile(took, 0.95))

    new = milliseconds(records[:half])
    vectors = casebook.vectors(row, records)
    there = milliseconds(records[half:])
    hits, wanted = 0, 0
    for label in LABELS:
        keys, matrix = casebook.matrix(row, label)
        found = casebook.nearest_keys(row, label, np.stack(vectors), _NEAREST)
        for vector, some in zip(vectors, found, strict=True):
            exact = {keys[i] for i in np.argsort(-(matrix @ vector))[:_NEAREST]}
            hits += len(exact & set(some))
            wanted += len(exact)
    templates = sum(len(casebook.matrix(row, label)[0]) for label in LABELS)
    context.close()
    return {"new": new, "there": there, "recall": hits / wanted, "templates": templates}


if __name__ == "__main__":
    what, *named = sys.argv[1:]
    given = Path(named[-1]).read_text(encoding="utf-8").splitlines()
    print(json.dumps(bare(given) if what == "bare" else query(Path(named[0]), given)))
