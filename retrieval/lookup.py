"""What the store holds on many keys and contents, in one query for each kind of thing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import Engine, and_, func, select

from retrieval.cases import LABELS, StoredCase, stored
from retrieval.exact import Vector, unpacked
from retrieval.store import cases, vectors


def counts_and_vectors(
    engine: Engine, name: str, keys: Sequence[str], hashes: Sequence[str]
) -> tuple[list[tuple[dict[str, int], dict[str, int]]], dict[str, Vector]]:
    """Of each key and hash how many cases of each label have that key and that content; the known keys' vectors."""
    mine = and_(cases.c.source == name, cases.c.key.in_(set(keys)))
    number = func.sum(cases.c.times).label("n")
    by_key: defaultdict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(LABELS, 0))
    by_content: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(LABELS, 0))
    with engine.connect() as connection:
        of_keys = select(cases.c.key, cases.c.label, number).where(mine).group_by(cases.c.key, cases.c.label)
        for found in connection.execute(of_keys):
            by_key[found.key][found.label] = found.n
        columns = cases.c.key, cases.c.hash, cases.c.label
        of_contents = select(*columns, number).where(mine, cases.c.hash.in_(set(hashes))).group_by(*columns)
        for key, content, label, n in connection.execute(of_contents):
            by_content[key, content][label] = n
        there = select(vectors.c.key, vectors.c.vector).where(vectors.c.source == name, vectors.c.key.in_(list(by_key)))
        kept: dict[str, Vector] = {}
        for key, blob in connection.execute(there.order_by(vectors.c.key, vectors.c.label)) if by_key else ():
            kept.setdefault(key, unpacked(blob))
    counted = [(by_key[key], by_content[key, one]) for key, one in zip(keys, hashes, strict=True)]
    return [(dict(templates), dict(contents)) for templates, contents in counted], kept


def cases_of_keys(
    engine: Engine, name: str, wanted: Collection[str], same: Collection[str]
) -> dict[tuple[str, str], tuple[StoredCase, dict[str, StoredCase], Vector]]:
    """By key and label, of the keys ``wanted``: the eldest case, those with a content in ``same``, the vector."""
    if not wanted:
        return {}
    mine = and_(cases.c.source == name, cases.c.key.in_(wanted))
    eldest = select(func.min(cases.c.id)).where(mine).group_by(cases.c.key, cases.c.label)
    own: defaultdict[tuple[str, str], dict[str, StoredCase]] = defaultdict(dict)
    with engine.connect() as connection:
        there = connection.execute(
            select(vectors.c.key, vectors.c.label, vectors.c.vector).where(
                vectors.c.source == name, vectors.c.key.in_(wanted)
            )
        ).all()
        first = {
            (one.key, one.label): stored(one) for one in connection.execute(select(cases).where(cases.c.id.in_(eldest)))
        }
        if same:
            for one in connection.execute(select(cases).where(mine, cases.c.hash.in_(same))):
                own[one.key, one.label][one.hash] = stored(one)
    # similarities come from the stored vectors, so that they are the same with and without Chroma
    return {
        (key, label): (first[key, label], own[key, label], unpacked(blob))
        for key, label, blob in there
        if (key, label) in first
    }
