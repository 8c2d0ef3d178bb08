"""Making the index hold what the store holds: vectors that are missing are embedded, then put into the index.

Each step marks what it has done. Whatever is interrupted, the next call completes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Engine, and_, exists, func, select, update

from retrieval.encoding.source_encoder import SourceEncoder
from retrieval.index.chroma import VectorIndex
from retrieval.store.cases import SAME_KEY, unpacked
from retrieval.store.engine import changing, insert_or_ignore
from retrieval.store.schema import cases, vectors
from retrieval.store.sources import SourceSnapshot
from retrieval.types import stored_case

_CHUNK = 2_000
_EMBEDDED_TOGETHER = 512
_logger = logging.getLogger("precedent.index")
# the step's name, how many are done, of how many
Progress = Callable[[str, int, int], None]


def embed_missing(
    engine: Engine, encoder: SourceEncoder, source: SourceSnapshot, progress: Progress | None = None
) -> None:
    """Store a vector for each key that has none."""
    assert source.representation is not None
    missing = and_(cases.c.source == source.name, ~exists().where(SAME_KEY))
    ids = select(func.min(cases.c.id)).where(missing).group_by(cases.c.key, cases.c.label)
    with engine.connect() as connection:
        missing_ids = list(connection.scalars(ids.order_by(func.min(cases.c.id))))
    if missing_ids:
        encoder.check(source)
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress("embedding", done, len(missing_ids))

    for start in range(0, len(missing_ids), _EMBEDDED_TOGETHER):
        chunk = select(cases).where(cases.c.id.in_(missing_ids[start : start + _EMBEDDED_TOGETHER]))
        with engine.connect() as connection:
            part = [stored_case(row) for row in connection.execute(chunk.order_by(cases.c.id))]
        if not part:
            continue
        matrix = encoder.encode_new(source.representation, part, step)
        rows = [
            {"source": source.name, "key": case.key, "label": case.label, "vector": v.tobytes(), "indexed": False}
            for case, v in zip(part, matrix, strict=True)
        ]
        with changing(engine, source.name) as connection:
            connection.execute(insert_or_ignore(engine, vectors), rows)


def pending(engine: Engine, name: str, label: str) -> tuple[int, int]:
    """How many vectors of a source's label the store holds, and how many of them are not marked as indexed."""
    of_label = _of_label(name, label)
    count = select(func.count()).select_from(vectors).where(of_label)
    with engine.connect() as connection:
        return connection.scalar(count) or 0, connection.scalar(count.where(~vectors.c.indexed)) or 0


def index_missing(engine: Engine, index: VectorIndex, name: str, label: str, progress: Progress | None = None) -> None:
    """Put vectors into the index that are not marked as being in it; all, if the index holds others than it should."""
    total, waiting = pending(engine, name, label)
    if index.count(name, label) + waiting != total:
        # lost, stale or half written: index everything again, the vectors are all in the store
        with changing(engine, name) as connection:
            connection.execute(update(vectors).where(_of_label(name, label)).values(indexed=False))
        index.drop(name, [label])
        waiting = total
    not_indexed = select(vectors.c.key, vectors.c.vector).where(_of_label(name, label), ~vectors.c.indexed)
    for start in range(0, waiting, _CHUNK):
        if progress:
            progress("indexing", start, waiting)
        with engine.connect() as connection:
            chunk: list[Any] = list(connection.execute(not_indexed.limit(_CHUNK)))
        if not chunk:
            break
        keys = [key for key, _ in chunk]
        index.put(name, label, keys, np.stack([unpacked(blob) for _, blob in chunk]))
        with changing(engine, name) as connection:
            marked = update(vectors).where(_of_label(name, label), vectors.c.key.in_(keys))
            connection.execute(marked.values(indexed=True))


def mark_not_indexed(engine: Engine, *where: ColumnElement[bool]) -> None:
    """Note that vectors are not in the index, those that meet all conditions."""
    with engine.begin() as connection:
        connection.execute(update(vectors).where(*where).values(indexed=False))


def compare_with_store(engine: Engine, index: VectorIndex, name: str, label: str) -> int:
    """Compare key by key what an index holds with what is marked as indexed, and put right what differs.

    Keys that the index lacks are marked as not indexed; those that it should not have are removed from it. Those whose
    vector in an embedded index is another one are both; a server's index is compared by its keys.

    Returns
    -------
    How many keys the index lacks.
    """
    held, different = set[str](), set[str]()
    for keys, held_vectors in index.contents(name, label):
        held.update(keys)
        if held_vectors is not None:
            different.update(_different(engine, name, label, keys, held_vectors))
    marked = select(vectors.c.key).where(_of_label(name, label), vectors.c.indexed)
    with engine.connect() as connection:
        expected = set(connection.scalars(marked))
    if lacking := sorted(expected - held | expected & different):
        _logger.warning(
            "the index lacked %d of %d %s vectors of source %r: they are added from the store",
            *(len(lacking), len(expected), label, name),
        )
    for start in range(0, len(lacking), _CHUNK):
        part = vectors.c.key.in_(lacking[start : start + _CHUNK])
        with changing(engine, name) as connection:
            connection.execute(update(vectors).where(_of_label(name, label), part).values(indexed=False))
    if extra := sorted(held - expected | different):
        index.delete(name, label, extra)
    return len(lacking)


def _different(engine: Engine, name: str, label: str, keys: list[str], held: NDArray[np.float32]) -> list[str]:
    """Those of n keys whose vector in the store has another direction than the one held, shape ``(n, dimensions)``."""
    stored = select(vectors.c.key, vectors.c.vector).where(_of_label(name, label), vectors.c.key.in_(keys))
    with engine.connect() as connection:
        blobs: dict[str, Any] = dict(connection.execute(stored).all())
    common = [i for i, key in enumerate(keys) if key in blobs]
    if not common:
        return []
    of_store = np.stack([unpacked(blobs[keys[i]]) for i in common])
    # Chroma keeps them as unit vectors
    of_store /= np.maximum(np.linalg.norm(of_store, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    if of_store.shape[1] != held.shape[1]:
        return [keys[i] for i in common]
    is_same = np.abs(held[common] - of_store).max(axis=1) <= 1e-6
    return [keys[i] for i in np.array(common)[~is_same]]


def _of_label(name: str, label: str) -> ColumnElement[bool]:
    return and_(vectors.c.source == name, vectors.c.label == label)
