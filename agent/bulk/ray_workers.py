"""The workers of a Ray cluster: actors that judge parts with a snapshot of the source; those that die are replaced."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.bulk.options import BulkOptions
from agent.bulk.part_judge import JudgedPart, Part, PartJudge
from agent.bulk.snapshot import Snapshot
from agent.core.errors import EXPECTED, MissingPart, describe
from agent.data.read_options import ReadOptions

# parts that one worker has at a time
AT_A_TIME = 2
# how often a part is judged again, and a worker started again, when its process dies
RETRIES = 3
# seconds until a cluster without a worker is given up
_NO_WORKER_SECONDS = 300.0


class Failure(str):
    """Why a worker cannot judge, as text: errors of ours cannot all be sent."""

    __slots__ = ()


class PartWorker:
    """Judges parts in a process of the cluster, with a snapshot of the source."""

    def __init__(self, snapshot: Snapshot, read_options: ReadOptions, options: BulkOptions) -> None:
        self._snapshot, self._setup = snapshot, (read_options, options, _no_progress, _no_progress)
        self._failure: Failure | None = None
        self._open()

    def _open(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="precedent-ray-"))
        try:
            self._judge = PartJudge(self._snapshot.open(self._home, threads=1), *self._setup)
            self._state = self._judge.state
        except EXPECTED as error:
            self._failure, self._state = Failure(describe(error)), ""

    def state(self) -> str | Failure:
        """See `PartJudge.state`."""
        return self._failure or self._state

    def judge(self, part: Part, *, is_again: bool) -> tuple[Failure | None, JudgedPart | None]:
        """Why a part cannot be judged, and its results.

        Of a part that another worker had, templates are reported by their first line in the input only if what this
        one has judged, which may be later parts, is forgotten.
        """
        if is_again and self._failure is None:
            self.close()
            self._open()
        try:
            return (self._failure, None) if self._failure else (None, self._judge.judge(part))
        except EXPECTED as error:
            return Failure(describe(error)), None

    def close(self) -> None:
        """Remove the snapshot."""
        shutil.rmtree(self._home, ignore_errors=True)


def _no_progress(*_: object) -> None:
    pass


@dataclass(eq=False)
class Actor:
    """A worker: its handle, the reference to its state, and how many parts it has."""

    handle: Any
    state: Any
    load: int = 0


class WorkerPool:
    """The workers of a run: one that dies is replaced as soon as the cluster has a processor for another.

    Parameters
    ----------
    ray : module
    start : callable
        Starts an actor, and returns its handle.
    state : str
        What the workers' state must be.
    """

    def __init__(self, ray: Any, start: Callable[[], Any], state: str) -> None:
        self._ray, self._start, self._state = ray, start, state
        self.ready: list[Actor] = []
        self.starting: list[Actor] = []
        self._died, self._seen = 0, time.monotonic()

    def start(self) -> None:
        """Start one more."""
        handle = self._start()
        self.starting.append(Actor(handle, handle.state.remote()))

    def update(self) -> None:
        """Add those that have become ready.

        Raises
        ------
        MissingPart
            One cannot judge, or there has been none for a long time.
        """
        references = {actor.state: actor for actor in self.starting}
        if references:
            for reference in self._ray.wait(list(references), num_returns=len(references), timeout=0)[0]:
                self._add(references[reference])
        if self.ready:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > _NO_WORKER_SECONDS:
            raise MissingPart(
                f"the Ray cluster has had no free processor for a worker for {_NO_WORKER_SECONDS:.0f} seconds",
                "`ray status` shows what is in use; the same command with --resume continues",
            )

    def replace(self, actor: Actor) -> None:
        """Start another in place of one that died."""
        if actor in self.ready:
            self.ready.remove(actor)
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor.handle)
            self.start()

    def least_busy(self) -> Actor | None:
        """The one with the fewest parts, if it has fewer than it may have."""
        actor = min(self.ready, key=lambda actor: actor.load, default=None)
        return actor if actor is not None and actor.load < AT_A_TIME else None

    def _add(self, actor: Actor) -> None:
        self.starting.remove(actor)
        try:
            state = self._ray.get(actor.state)
        except self._ray.exceptions.RayActorError as error:
            self._died += 1
            if self._died > RETRIES:
                raise MissingPart(f"workers of the Ray cluster die when they start: {first_line(error)}") from error
            self.start()
            return
        if isinstance(state, Failure):
            raise MissingPart(f"a worker of the Ray cluster cannot judge: {state}")
        if state != self._state:
            raise MissingPart(
                "a worker of the Ray cluster would judge in another way: its version of Precedent, its packages or "
                "its language model are not those of this machine"
            )
        self._died = 0
        self.ready.append(actor)


def first_line(error: Exception) -> str:
    """The first line of what an error of Ray says."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
