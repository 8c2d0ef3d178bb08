"""A copy of one source, to fit and to judge it as it would be, while the source itself stays as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path

from agent.detectors.contrib.resources import Resources
from agent.detectors.language import LanguageDetector
from agent.pipeline.context import AppContext
from retrieval.casebook import Casebook, SourceSnapshot
from retrieval.encoding.text_embedder import Embedder
from retrieval.index.chroma import NoIndex
from retrieval.store.copying import copy_source


class _TrialCasebook(Casebook):
    """A casebook that is searched exactly, because it is soon removed."""

    index_class = NoIndex


class TrialContext(AppContext):
    """A context with a store of its own, and with the models of another context.

    Parameters
    ----------
    parent : AppContext
    folder : Path
        Where its store is.
    """

    def __init__(self, parent: AppContext, folder: Path) -> None:
        super().__init__(parent.settings)
        self._parent, self._store = parent, folder

    @cached_property
    def casebook(self) -> Casebook:
        """The casebook of the copy."""
        return _TrialCasebook(self._store, f"sqlite:///{self._store / 'trial.db'}", self.embedder)

    def embedder(self) -> Embedder:
        """The embedding model of the parent."""
        return self._parent.embedder()

    def language_detector(self, row: SourceSnapshot | None = None) -> LanguageDetector:
        """The language model of the parent, with its cached answers."""
        return self._parent.language_detector(row)

    def detector_resources(self, row: SourceSnapshot) -> Resources:
        """Those of the parent: models that were trained for the source are in its folder."""
        return self._parent.detector_resources(row)


@contextmanager
def trial_copy(context: AppContext, source: str, until: datetime | None = None) -> Iterator[TrialContext]:
    """A copy of the source with its fit and the cases that were given ``until`` then; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="precedent-trial-", ignore_cleanup_errors=True) as folder:
        trial = TrialContext(context, Path(folder))
        try:
            copy_source(context.casebook.engine, trial.casebook.engine, source, until)
            yield trial
        finally:
            trial.close()
