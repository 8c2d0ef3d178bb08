"""What another process needs to judge with a source as this one does, as bytes."""

from __future__ import annotations

import io
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agent.core.settings import Settings
from agent.pipeline.context import AppContext, BatchModel
from retrieval.store.snapshot import write_snapshot

_STORE = "precedent.db"


@dataclass(frozen=True)
class Snapshot:
    """A source, and the settings that it is judged with.

    Attributes
    ----------
    settings : Settings
        Those of the process that made the snapshot.
    batch_models : dict of str to BatchModel
        See `AppContext`.
    archive : bytes
        A tar archive of a data directory: the files of the source's detectors, and its store unless the settings name
        a database server, which every process can open.
    """

    settings: Settings
    batch_models: dict[str, BatchModel]
    archive: bytes

    @classmethod
    def of(cls, context: AppContext, source: str) -> Snapshot:
        """The snapshot of a source."""
        packed = io.BytesIO()
        folder = context.settings.home / "detectors" / source
        with tempfile.TemporaryDirectory() as temporary, tarfile.open(fileobj=packed, mode="w") as archive:
            if not _is_shared(context.settings):
                file = Path(temporary) / _STORE
                write_snapshot(context.casebook.engine, source, file)
                archive.add(file, _STORE)
            if folder.is_dir():
                archive.add(folder, f"detectors/{source}")
        return cls(context.settings, dict(context.batch_models), packed.getvalue())

    def open(self, home: Path, **changes: object) -> AppContext:
        """A context with the snapshot in the data directory ``home``, its settings changed by ``changes``."""
        with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
            archive.extractall(home, filter="data")
        settings = self.settings
        update: dict[str, object] = {"home": home, **changes}
        if not _is_shared(settings):
            update |= {"store": None, "chroma": None}
        if not settings.cache.is_dir():
            # another machine: its own folder of models
            update["cache"] = Settings.model_fields["cache"].get_default(call_default_factory=True)
        context = AppContext(settings.model_copy(update=update))
        context.batch_models.update(self.batch_models)
        return context


def _is_shared(settings: Settings) -> bool:
    """Whether the store is on a database server."""
    return settings.store is not None and not settings.store.startswith("sqlite")
