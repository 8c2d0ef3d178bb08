"""The fit of each source, and the one before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select

from retrieval.encoding.representation import Representation
from retrieval.store.cases import delete_orphaned_vectors, set_keys
from retrieval.store.schema import earlier_fits, sources
from retrieval.store.sources import Sources
from retrieval.types import StoredCase


@dataclass(frozen=True)
class Fit:
    """What `fit` made of a source's cases, as it is stored, and what it was made with.

    ``source_model`` is an `agent.scoring.fusion.SourceModel` as JSON, ``models`` are the packed detectors;
    ``representation`` and ``embedder`` say which vectors it was fitted to. ``replaced_at`` is None for the present one.
    """

    source_model: dict[str, Any]
    models: bytes | None
    representation: dict[str, Any] | None
    embedder: str | None
    replaced_at: datetime | None = None

    def is_same(self, other: Fit) -> bool:
        """Whether both judge alike."""
        return (self.source_model, self.models, self.representation) == (
            other.source_model,
            other.models,
            other.representation,
        )


_FIT = ("source_model", "models", "representation", "embedder")


class Fits:
    """The present and the earlier fit of each source."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def current(self, name: str) -> Fit | None:
        """The fit that the source is judged with; None if it was never fitted."""
        with self._engine.connect() as connection:
            return self.current_in(connection, name)

    def earlier(self, name: str) -> Fit | None:
        """The fit before the present one, if there is one."""
        columns = [earlier_fits.c[column] for column in (*_FIT, "replaced_at")]
        with self._engine.connect() as connection:
            row = connection.execute(select(*columns).where(earlier_fits.c.source == name)).first()
        return Fit(*row) if row else None

    def keep_earlier(self, name: str, fit: Fit) -> None:
        """Make a fit the one before the present one."""
        with self._engine.begin() as connection:
            self.keep_in(connection, name, fit)

    def go_back(self, name: str, earlier: Fit) -> None:
        """Make ``earlier`` the present fit, and the present one the earlier."""
        with self._engine.begin() as connection:
            present = self.current_in(connection, name)
            Sources.update(connection, name, source_model=earlier.source_model, models=earlier.models)
            if present is not None:
                self.keep_in(connection, name, present)

    def publish(
        self, name: str, fit: Fit, replaced: Fit, version: int, read_cases: Callable[[str], Sequence[StoredCase]]
    ) -> list[tuple[str, str]] | None:
        """Judge a source with another fit, and keep the one that it replaces, in one transaction.

        Parameters
        ----------
        fit
            The new fit, with the representation that it was made with.
        replaced
            The fit that the source must have now.
        version
            The version of the casebook that the new fit was made from.
        read_cases
            Gives the source's cases, whose keys another representation changes.

        Returns
        -------
        The keys and labels of vectors that no case has any more; None, and nothing is changed, if the source has
        another fit by now.
        """
        orphans: list[tuple[str, str]] = []
        with self._engine.begin() as connection:
            # what writes first waits for others that write, and then reads what they wrote
            Sources.update(connection, name)
            if self.current_in(connection, name) != replaced:
                return None
            if fit.representation is not None and fit.representation != replaced.representation:
                set_keys(connection, read_cases(name), Representation.from_json(fit.representation))
                orphans = delete_orphaned_vectors(connection, name)
                Sources.cases_changed(connection, name)
                version += 1
            fit = replace(fit, source_model={**fit.source_model, "fitted_on": version})
            values = {"source_model": fit.source_model, "models": fit.models, "representation": fit.representation}
            Sources.update(connection, name, **values)
            if not fit.is_same(replaced):
                self.keep_in(connection, name, replaced)
        return orphans

    def note(self, name: str, fit: Fit, **values: Any) -> None:
        """Note values in the source's fit, if that is ``fit``."""
        with self._engine.begin() as connection:
            Sources.update(connection, name)
            if self.current_in(connection, name) == fit:
                Sources.update(connection, name, source_model={**fit.source_model, **values})

    @staticmethod
    def current_in(connection: Connection, name: str) -> Fit | None:
        """As `current`, in a transaction."""
        columns = [sources.c[column] for column in _FIT]
        row = connection.execute(select(*columns).where(sources.c.name == name)).first()
        return Fit(*row) if row is not None and row.source_model is not None else None

    @staticmethod
    def keep_in(connection: Connection, name: str, fit: Fit) -> None:
        """As `keep_earlier`, in a transaction."""
        connection.execute(delete(earlier_fits).where(earlier_fits.c.source == name))
        values = {column: getattr(fit, column) for column in _FIT}
        connection.execute(insert(earlier_fits).values(source=name, replaced_at=datetime.now(UTC), **values))
