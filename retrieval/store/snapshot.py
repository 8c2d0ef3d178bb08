"""A source in a store of its own, for a process that cannot open the store it is in."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from retrieval.store.copying import copy_rows, copy_source
from retrieval.store.engine import open_store
from retrieval.store.schema import llm_cache, template_verdicts


def write_snapshot(store: Engine, name: str, file: Path) -> None:
    """Write a source with its cases, vectors and fit, and the answers that are cached, to a new SQLite file.

    The vectors are marked as not indexed: who opens the file builds its own index.
    """
    other = open_store(f"sqlite:///{file}")
    copy_source(store, other, name)
    copy_rows(store, other, template_verdicts, template_verdicts.c.source == name)
    copy_rows(store, other, llm_cache)
    other.dispose()
