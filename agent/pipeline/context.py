"""What the process judges with: casebook, embedding model, language model, each opened at first use."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from agent.core.errors import NEW_SOURCE_HINT, Conflict, UnknownSource
from agent.core.records import clean_text
from agent.core.settings import Settings, settings
from agent.detectors.contrib.resources import Resources
from agent.detectors.lora import SourceAdapter
from retrieval.casebook import Casebook, SourceSnapshot
from retrieval.store.caches import LLMCache
from retrieval.store.case_changes import CaseRows
from retrieval.store.held_corrections import HeldCorrections
from retrieval.store.verdicts import History

if TYPE_CHECKING:
    from agent.detectors.language import LanguageDetector
    from retrieval.encoding.text_embedder import Embedder

_RETRY_SECONDS = 5.0


@dataclass(frozen=True)
class BatchModel:
    """What a source is judged with instead of its own model, in this process only.

    Parameters
    ----------
    source_model : dict
        An `agent.scoring.fusion.SourceModel` as JSON.
    packed : bytes or None
        The fitted detectors; None for those of the source.
    sha256 : str
        Of the batch and of the state of the source that it was made from.
    """

    source_model: dict[str, Any]
    packed: bytes | None
    sha256: str


class AppContext:
    """Opens each part once per process; safe to share between threads.

    Attributes
    ----------
    batch_models : dict of str to BatchModel
        By source, see `agent.training.batch_adaptation`; set before any record is judged.
    correcting : Lock
        Held while a correction is checked and stored.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.batch_models: dict[str, BatchModel] = {}
        # of one client that sends many at once, the next is checked when the one before counts
        self.correcting = threading.Lock()
        self._lock = threading.RLock()
        self._embedder: Embedder | None = None
        self._detector: LanguageDetector | None = None
        self._adapted: dict[str, LanguageDetector] = {}
        self._failure: tuple[float, Exception] | None = None
        self._fitting: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)

    @cached_property
    def casebook(self) -> Casebook:
        """The casebook that the settings name, opened at first use."""
        return Casebook(self.settings.home, self.settings.store_url, self.embedder, self.settings.chroma)

    @cached_property
    def history(self) -> History:
        """The history of verdicts, in the casebook's store."""
        return History(self.casebook.engine)

    @cached_property
    def case_rows(self) -> CaseRows:
        """The cases with all that is stored of them, and their changes."""
        return CaseRows(self.casebook.engine)

    @cached_property
    def held_corrections(self) -> HeldCorrections:
        """The corrections that wait for a second person."""
        return HeldCorrections(self.casebook.engine)

    def source(self, name: str | None) -> SourceSnapshot:
        """The source called ``name``; None stands for the only source there is.

        Raises
        ------
        UnknownSource
            There is no source of that name.
        Conflict
            No source was named, and there is not exactly one.
        """
        # what the store cannot hold names no source
        names = self.casebook.names() if name is None else [name] if clean_text(name) == name else []
        row = self.casebook.source(names[0]) if len(names) == 1 else None
        if row is not None:
            adapted = self.batch_models.get(row.name)
            # a revision that no source has of its own
            return replace(row, source_model=adapted.source_model, revision=-row.revision - 1) if adapted else row
        if name is not None:
            raise UnknownSource(name, self.casebook.names())
        raise Conflict(
            f"name the source of the record; known sources: {', '.join(names) or 'none yet'}",
            None if names else NEW_SOURCE_HINT,
        )

    def models(self, source: str) -> bytes | None:
        """The packed detectors that were fitted to the source, or to the batch that is judged."""
        adapted = self.batch_models.get(source)
        return self.casebook.models(source) if adapted is None or adapted.packed is None else adapted.packed

    def batch_sha256(self, source: str) -> str | None:
        """The hash of the batch that the source's model was adapted to; None if it was not."""
        adapted = self.batch_models.get(source)
        return adapted.sha256 if adapted else None

    def detector_resources(self, row: SourceSnapshot) -> Resources:
        """What contrib detectors of a source may use besides its cases."""
        return Resources(
            brief=row.brief,
            by_fields=row.representation is not None and row.representation.field_encoder is not None,
            embed=lambda texts: self.embedder().encode_cached(texts),
            folder=self.settings.home / "detectors" / row.name,
            device=self.settings.device,
            offline=self.settings.offline,
        )

    def fitting(self, source: str) -> threading.RLock:
        """The lock that is held while the source is fitted."""
        with self._lock:
            return self._fitting[source]

    def embedder(self) -> Embedder:
        """The embedding model, downloaded if it is not on this machine.

        Raises
        ------
        ModelFailure
            It cannot be found; the message says what was tried.
        """
        with self._lock:
            if self._embedder is None:
                from llm.weights.resolver import resolve
                from retrieval.encoding.text_embedder import Embedder

                resolved = resolve(self.settings.embedder, cache=self.settings.cache, offline=self.settings.offline)
                self._embedder = Embedder(resolved.path, self.settings.device)
            return self._embedder

    def language_detector(self, row: SourceSnapshot | None = None) -> LanguageDetector:
        """The language model that the settings choose; after a failure it is tried again some seconds later.

        Parameters
        ----------
        row : SourceSnapshot, optional
            A source, whose adapter the model has, if there is one that it can have.

        Raises
        ------
        ModelFailure
            No model can be loaded, or the adapter cannot.
        """
        adapter = SourceAdapter.of(row.source_model) if row else None
        return self.plain_detector() if row is None or adapter is None else self.adapted_detector(row, adapter)

    def adapted_detector(self, row: SourceSnapshot, adapter: SourceAdapter) -> LanguageDetector:
        """The language model with an adapter of a source, if it can have it.

        Raises
        ------
        ModelFailure
            As `language_detector`.
        """
        from llm.errors import ModelFailure

        plain = self.plain_detector()
        with self._lock:
            if (adapted := self._adapted.get(adapter.sha256)) is not None:
                return adapted
            folder = self.detector_resources(row).folder
            assert folder is not None
            try:
                model = plain.model.with_adapter(adapter.file(folder), adapter.sha256, adapter.weights_sha256)
            except ModelFailure as error:
                command = f"`precedent tune lora --source {row.name}`"
                raise ModelFailure(f"{error}: {command} trains it again, with --remove it is not used") from error
            self._adapted[adapter.sha256] = plain.of(model)
            return self._adapted[adapter.sha256]

    def plain_detector(self) -> LanguageDetector:
        """The language model without an adapter, see `language_detector`."""
        from llm.errors import ModelFailure
        from llm.factory import choose_model

        with self._lock:
            if self._detector is None:
                if self._failure and time.monotonic() - self._failure[0] < _RETRY_SECONDS:
                    raise self._failure[1]
                from agent.detectors.language import LanguageDetector

                chosen = self.settings
                try:
                    model = choose_model(
                        chosen.model,
                        cache=chosen.cache,
                        offline=chosen.offline,
                        ollama_hosts=chosen.ollama_hosts,
                        ollama_model=chosen.ollama_model,
                        context_tokens=chosen.context_tokens,
                        threads=chosen.threads,
                        queue_size=chosen.queue_size,
                        timeout=chosen.request_timeout,
                        gpu_layers=0 if chosen.gpu_layers is None and chosen.device == "cpu" else chosen.gpu_layers,
                        openai_api_key=key.get_secret_value() if (key := chosen.openai_api_key) else None,
                    )
                except ModelFailure as error:
                    self._failure = (time.monotonic(), error)
                    raise
                self._detector = LanguageDetector(model, LLMCache(self.casebook.engine), chosen.record_tokens)
            return self._detector

    def close(self) -> None:
        """Close the index, the store and the language model."""
        if self._detector is not None:
            self._detector.model.close()
        if "casebook" in self.__dict__:
            self.casebook.close()


@cache
def default_context() -> AppContext:
    """The context of this process, by its settings."""
    return AppContext(settings())
