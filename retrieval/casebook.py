"""The casebook: all cases of every source, searchable by similarity.

Cases are committed to the relational store first, then embedded, then indexed (`retrieval.index.synced`).
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
from sqlalchemy import delete

from retrieval.encoding.representation import RecordLike, Representation
from retrieval.encoding.source_encoder import SourceEncoder
from retrieval.encoding.text_embedder import Embedder
from retrieval.errors import NotWritable, StoreFailure
from retrieval.index.chroma import VectorIndex
from retrieval.index.exact import DECIMALS, cosines
from retrieval.index.indexing import Progress
from retrieval.index.synced import SyncedIndex
from retrieval.store.case_changes import (
    CaseChange,
    CaseRows,
    case_of_id,
    newest_change,
    replace_content,
    replaced_rows,
    restore,
    rows_of_content,
)
from retrieval.store.cases import (
    CaseQueries,
    ContentLabel,
    KeyLabel,
    case_row,
    cases_of_keys,
    counts_and_vectors,
    delete_orphaned_vectors,
    insert_cases,
    rows_of_origin,
    set_keys,
    vectors_of_keys,
)
from retrieval.store.engine import changing, open_store
from retrieval.store.schema import case_changes, cases, held_corrections, sources, template_verdicts, vectors, verdicts
from retrieval.store.sealing import close_store
from retrieval.store.sources import Sources, SourceSnapshot
from retrieval.text.kept_numbers import KeptNumbers
from retrieval.types import LABELS, NOTHING_FOUND, Neighbour, NewCase, RetrievalResult, StoredCase, Vector, stored_case

__all__ = ["Casebook", "Neighbour", "NewCase", "RetrievalResult", "SourceSnapshot", "StoredCase"]

_CHUNK = 2_000


class Casebook:
    """Sources and their cases. Safe to share between threads and, through the store, between processes.

    Parameters
    ----------
    home
        Data directory; the embedded index is its folder ``index``.
    store_url
        SQLAlchemy URL of the relational store.
    embedder
        Called when a text must be embedded for the first time.
    chroma_url
        URL of a Chroma server; None: the index is embedded.
    """

    index_class = VectorIndex

    def __init__(
        self, home: Path, store_url: str, embedder: Callable[[], Embedder], chroma_url: str | None = None
    ) -> None:
        self.engine = open_store(store_url)
        self._sources = Sources(self.engine)
        self.names, self.source, self.readings = self._sources.names, self._sources.get, self._sources.readings
        self.create, self.set, self.models = self._sources.create, self._sources.set, self._sources.models
        queries = CaseQueries(self.engine)
        self.cases, self.hashes_of_cases, self.texts = queries.cases, queries.hashes_of_cases, queries.texts
        self.templates, self.by_template = queries.templates, queries.by_template
        self.mixed_keys, self.keys_by_label, self.case_ids = queries.mixed_keys, queries.keys_by_label, queries.case_ids
        encoder = SourceEncoder(self._sources, embedder)
        self.vectors, self._index = encoder.encode, self.index_class(home / "index", chroma_url)
        self._synced = synced = SyncedIndex(self.engine, self._index, encoder)
        self.matrix, self.sync_for_search, self.discard = synced.matrix, synced.sync_for_search, synced.discard
        self.nearest_one, self.greatest_cosine = synced.nearest_one, synced.greatest_cosine
        self.index_lock, self.reindex, self.erase_vectors = synced.lock, synced.reindex, synced.erase

    def remove(self, name: str) -> None:
        """Remove a source with all its cases, verdicts and vectors.

        Raises
        ------
        StoreFailure
            Another process owns the index.
        """
        with self._synced.lock:
            self._synced.own()
            with changing(self.engine, name) as connection:
                for table in (template_verdicts, verdicts, vectors, case_changes, held_corrections, cases):
                    connection.execute(delete(table).where(table.c.source == name))
                connection.execute(delete(sources).where(sources.c.name == name))
            self._synced.forget(name)

    def close(self) -> None:
        """Close the index, which another process may then own, and the store."""
        self._synced.close()
        close_store(self.engine)

    # cases

    def add(self, name: str, new: Iterable[NewCase], given_by: str, seen: Counter[ContentLabel] | None = None) -> int:
        """Commit cases in batches; call `sync` after it.

        Content that comes with the same label again is one case, which counts as often as it came in one call.

        Parameters
        ----------
        seen
            Counts each content with its label, see `remove_relabelled`.

        Returns
        -------
        How many cases were new.
        """
        seen = Counter() if seen is None else seen
        added, remaining = 0, iter(new)
        while batch := list(islice(remaining, _CHUNK)):
            seen.update((case.content_hash, case.label) for case in batch)
            self.create(name)
            with changing(self.engine, name) as connection:
                representation = self._sources.representation(connection, name, [case.record for case in batch])
                new_cases, raised = insert_cases(connection, name, batch, representation, given_by, seen)
                if new_cases or raised:
                    self._sources.cases_changed(connection, name)
            added += new_cases
        return added

    def remove_relabelled(self, name: str, given_by: str, seen: Mapping[ContentLabel, int]) -> int:
        """Remove the cases that ``given_by`` gave before with another label, and only that, than it has ``seen`` now.

        Returns
        -------
        How many cases were removed.
        """
        contents = {content for content, _ in seen}
        with changing(self.engine, name) as connection:
            rows = rows_of_origin(connection, name, given_by)
            old = [row for row in rows if row.hash in contents and (row.hash, row.label) not in seen]
            for start in range(0, len(old), _CHUNK):
                chunk = old[start : start + _CHUNK]
                connection.execute(delete(cases).where(cases.c.id.in_([row.id for row in chunk])))
            gone = delete_orphaned_vectors(connection, name)
            if old:
                self._sources.cases_changed(connection, name)
        self._synced.discard(name, gone)
        return len(old)

    def relabel(self, name: str, case: NewCase, given_by: str, verdict_id: str | None = None) -> str:
        """Make ``case`` the only case with its content, whatever label it had; returns its id."""
        self.create(name)
        with changing(self.engine, name) as connection:
            representation = self._sources.representation(connection, name, [case.record])
            row = case_row(name, case, representation, given_by)
            number, orphans = replace_content(
                connection, name, case.content_hash, [row], "labelled", given_by, verdict_id
            )
            self._sources.cases_changed(connection, name)
        self._synced.discard(name, orphans)
        return f"c{number}"

    def change_case(self, case_id: str, label: str | None, changed_by: str) -> CaseChange | None:
        """Give a case another label, or remove it; None if there is no such case.

        Parameters
        ----------
        label
            With it, the case is the only one with its content; None removes the case.
        """
        if (row := CaseRows(self.engine).get(case_id)) is None:
            return None
        with changing(self.engine, row["source"]) as connection:
            # another process may have changed it meanwhile
            if (row := case_of_id(connection, case_id)) is None:
                return None
            if label is None:
                rest = [other for other in rows_of_content(connection, row["source"], row["hash"]) if other != row]
                changed, action = rest, "deleted"
            else:
                given = {"given_by": changed_by, "given_at": datetime.now(UTC)}
                changed, action = [{**row, "label": label, "label_value": None, **given}], "relabelled"
            _, orphans = replace_content(
                connection, row["source"], row["hash"], changed, action, changed_by, case=row, label=label
            )
            self._sources.cases_changed(connection, row["source"])
            change = newest_change(connection, source=row["source"], content_hash=row["hash"])
        self._synced.discard(row["source"], orphans)
        return change

    def undo(self, change: CaseChange, changed_by: str) -> bool:
        """Restore the cases that a change replaced; False if their content was changed since."""
        with changing(self.engine, change.source) as connection:
            newest = newest_change(connection, source=change.source, content_hash=change.content_hash)
            if newest is None or newest.number != change.number:
                return False
            rows = replaced_rows(connection, change)
            representation = self._sources.representation(connection, change.source, [stored_case(row) for row in rows])
            orphans = restore(connection, change, rows, representation, changed_by)
            self._sources.cases_changed(connection, change.source)
        self._synced.discard(change.source, orphans)
        return True

    def sync(self, name: str, progress: Progress | None = None) -> None:
        """Embed and index what is missing; a no-op when nothing changed since the last call.

        Raises
        ------
        EmbedderMismatch
            The source's vectors were made by another embedding model.
        """
        if (source := self.source(name)) is not None:
            self._synced.sync(source, progress)

    def rebuild(self, name: str, progress: Progress | None = None) -> None:
        """Make the source's vectors and index anew from its cases, with the present embedding model.

        Raises
        ------
        StoreFailure
            Another process owns the index.
        """
        with self._synced.lock:
            try:
                self._synced.own()
            except StoreFailure as error:
                if isinstance(error, NotWritable) or not self._index.locked:
                    raise
                # the embedded index itself is damaged; every source's part of it can be made again
                shutil.rmtree(self._index.folder)
                self._synced.own()
            all_cases, source = self.cases(name), self.source(name)
            representation = Representation.fit(all_cases)
            if source and source.representation and representation.field_encoder is None:
                representation = representation.keeping(source.representation.kept)
            with changing(self.engine, name) as connection:
                connection.execute(delete(vectors).where(vectors.c.source == name))
                if all_cases:
                    set_keys(connection, all_cases, representation)
                    self._sources.update(connection, name, representation=representation.to_json())
                self._sources.update(connection, name, embedder=None)
                self._sources.cases_changed(connection, name)
            self._synced.forget(name)
            self.sync(name, progress)

    def keep_numbers(self, name: str, kept: KeptNumbers) -> None:
        """Change which numbers masking leaves in the source's texts; `sync` then embeds the templates that are new."""
        source = self.source(name)
        if source is None or source.representation is None or source.representation.kept == kept:
            return
        representation = source.representation.keeping(kept)
        with self._synced.lock, changing(self.engine, name) as connection:
            set_keys(connection, self.cases(name), representation)
            orphans = delete_orphaned_vectors(connection, name)
            self._sources.update(connection, name, representation=representation.to_json())
            self._sources.cases_changed(connection, name)
        self._synced.discard(name, orphans)

    # search

    def find(self, name: str, record: RecordLike, content_hash: str, k: int) -> RetrievalResult:
        """As `find_many`, of one record, in the source as it is now."""
        source = self.source(name)
        if source is None:
            return NOTHING_FOUND
        return self.find_many(source, [(record, content_hash)], k)[0]

    def find_many(
        self, source: SourceSnapshot, records: Sequence[tuple[RecordLike, str]], k: int
    ) -> list[RetrievalResult]:
        """What the casebook holds on each record: the ``k`` nearest keys of each label, one case for each key.

        Of equally near keys the record's own template comes first, then the others by key.

        Parameters
        ----------
        records
            Records with the hashes of their content; each step is one query for all of them.
        """
        self.sync_for_search(source)
        if source.representation is None:
            return [NOTHING_FOUND] * len(records)
        hashes = [content_hash for _, content_hash in records]
        keys = [source.representation.key(record, content_hash) for record, content_hash in records]
        counts, known = counts_and_vectors(self.engine, source.name, keys, hashes)
        unknown = iter(self.vectors(source, [records[i][0] for i, key in enumerate(keys) if key not in known]))
        queries = np.stack([known[key] if key in known else next(unknown) for key in keys])
        nearest = self._nearest(source, keys, queries, [templates for templates, _ in counts], k)
        same = {content for content, (_, contents) in zip(hashes, counts, strict=True) if any(contents.values())}
        stored = cases_of_keys(self.engine, source.name, {key for near in nearest for (key, _), _ in near}, same)
        results = []
        for content, query, near, (templates, contents) in zip(hashes, queries, nearest, counts, strict=True):
            neighbours = []
            for key_label, similarity in near:
                if key_label in stored:
                    oldest, by_hash = stored[key_label]
                    neighbours.append(Neighbour(by_hash.get(content, oldest), similarity))
            results.append(RetrievalResult(tuple(neighbours), templates, contents, query))
        return results

    def nearest_keys(self, source: SourceSnapshot, label: str, queries: Vector, k: int) -> list[list[str]]:
        """The keys of the ``k`` nearest vectors, nearest first, for each of n unit vectors, shape (n, dimensions)."""
        return [keys[:k] for keys in self._synced.candidates(source, label, queries, k)]

    def _nearest(
        self,
        source: SourceSnapshot,
        own_keys: Sequence[str],
        queries: Vector,
        templates: Sequence[dict[str, int]],
        k: int,
    ) -> list[list[tuple[KeyLabel, float]]]:
        """For each query key, label and similarity of the ``k`` nearest keys of each label, nearest first."""
        candidates = {label: self._synced.candidates(source, label, queries, k) for label in LABELS}
        for i, own_key in enumerate(own_keys):
            for label, keys in candidates.items():
                if templates[i][label] and own_key not in keys[i]:
                    keys[i].append(own_key)
        needed = {key for of_label in candidates.values() for keys in of_label for key in keys}
        stored = vectors_of_keys(self.engine, source.name, needed)
        out = []
        for i, (own_key, query) in enumerate(zip(own_keys, queries, strict=True)):

            def order(near: tuple[KeyLabel, float], own_key: str = own_key) -> tuple[float, bool, str, str]:
                (key, label), similarity = near
                return -round(similarity, DECIMALS), key != own_key, label, key

            near = list[tuple[KeyLabel, float]]()
            for label, keys in candidates.items():
                pairs = [(key, label) for key in keys[i] if (key, label) in stored]
                found = cosines(np.stack([stored[pair] for pair in pairs]), query).clip(-1, 1) if pairs else np.zeros(0)
                near += sorted(zip(pairs, found.tolist(), strict=True), key=order)[:k]
            out.append(sorted(near, key=order))
        return out
