"""Workers on a Ray cluster that judge parts, and hand back their results in order.

The workers are actors of Ray's core. Ray Data's `map_batches` is not used: it does not run on a client of a cluster
(``ray://``), and it reads its input on the cluster's nodes, where the files of this machine are not.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.bulk.options import BulkOptions
from agent.bulk.part_judge import JudgedPart, Part, PartJudge
from agent.bulk.snapshot import Snapshot
from agent.core.errors import EXPECTED, MissingPart, describe
from agent.core.terminal import plural
from agent.data.read_options import ReadOptions

# parts that one worker has at a time, and parts that wait for an earlier one to be written, for each worker
AT_A_TIME, AHEAD = 2, 4
# how often a part is given to a worker: one that ends with each of its workers is the cause of that
_MOST_TRIES = 4
# seconds between two looks at signals, for which all workers are waited for at first, and after which a note says so
_SIGNAL_SECONDS, _START_SECONDS = 0.2, 60.0
_ONE_THREAD = {"POLARS_MAX_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class _Failure(str):
    """Why a worker cannot judge, as text: errors of ours cannot all be sent."""

    __slots__ = ()


class _Worker:
    """Judges parts in a process of the cluster, with a snapshot of the source."""

    def __init__(self, snapshot: Snapshot, read_options: ReadOptions, options: BulkOptions) -> None:
        home = Path(tempfile.mkdtemp(prefix="precedent-ray-"))
        self._home, self._failure = home, None
        try:
            context = snapshot.open(home, threads=1)
            self._judge = PartJudge(context, read_options, options, _no_progress, _no_progress)
            self._state = self._judge.state
        except EXPECTED as error:
            self._failure, self._state = _Failure(describe(error)), ""

    def state(self) -> str | _Failure:
        """See `PartJudge.state`."""
        return self._failure or self._state

    def judge(self, part: Part) -> JudgedPart | _Failure:
        """The results of a part."""
        try:
            return self._failure or self._judge.judge(part)
        except EXPECTED as error:
            return _Failure(describe(error))

    def close(self) -> None:
        """Remove the snapshot."""
        shutil.rmtree(self._home, ignore_errors=True)


def _no_progress(*_: object) -> None:
    pass


class RayCluster:
    """A context manager: connects to a cluster, or starts one on this machine, and its workers.

    Parameters
    ----------
    address : str
        ``ray://HOST:PORT``, or ``ray``: the cluster that RAY_ADDRESS names, else one on this machine that is stopped at
        the end.
    workers : int or None
        How many; None: one for each processor of the cluster.
    snapshot, read_options, options
        What the workers judge with.
    state : str
        `PartJudge.state` of this process, which theirs must be.
    notify : callable
        Takes notes for a person.
    """

    def __init__(
        self,
        address: str,
        workers: int | None,
        snapshot: Snapshot,
        read_options: ReadOptions,
        options: BulkOptions,
        state: str,
        notify: Callable[[str], None],
    ) -> None:
        self._address, self._count, self._state, self._notify = address, workers, state, notify
        self._setup = snapshot, read_options, options

    def __enter__(self) -> Self:
        self._ray = ray = _ray()
        self._ready: dict[Any, int] = {}
        self._starting: dict[Any, Any] = {}
        self._failed_starts = 0
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            self._connect()
        try:
            self._begin()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ray = self._ray
        with suppress(ray.exceptions.RayError, ConnectionError):
            closed = [worker.close.remote() for worker in self._ready]
            if closed:
                ray.wait(closed, num_returns=len(closed), timeout=5 if kind is None else 1)
            for worker in (*self._ready, *self._starting.values()):
                ray.kill(worker)
        if self._is_ours:
            ray.shutdown()

    def judge(self, parts: Iterator[Part]) -> Iterator[tuple[Part, JudgedPart]]:
        """Yield each part and its results, in order; an error of ``parts`` is raised after the parts before it.

        A part whose worker dies is given to another one, and another worker is started.

        Raises
        ------
        MissingPart
            A worker cannot judge, or the cluster is lost.
        """
        handed, judged = dict[int, Part](), dict[int, JudgedPart]()
        running, again = dict[Any, tuple[int, Any]](), deque[int]()
        tries = Counter[int]()
        failure: Exception | None = None
        count = written = 0
        is_last = False
        while not is_last or handed:
            while (worker := self._idle()) is not None:
                if not again and not is_last and count - written < AHEAD * self._workers:
                    try:
                        handed[count] = next(parts)
                        again.append(count)
                        count += 1
                    except StopIteration:
                        is_last = True
                    except Exception as error:
                        failure, is_last = error, True
                if not again:
                    break
                number = again.popleft()
                tries[number] += 1
                running[worker.judge.remote(handed[number])] = number, worker
                self._ready[worker] += 1
            for reference in self._done(running):
                number, worker = running.pop(reference)
                result = self._result(reference, worker, handed[number], tries[number])
                if result is None:
                    again.append(number)
                else:
                    judged[number] = result
            while written in judged:
                yield handed.pop(written), judged.pop(written)
                written += 1
        if failure is not None:
            raise failure

    def _idle(self) -> Any | None:
        """The worker with the fewest parts, if it can take one."""
        worker = min(self._ready, key=self._ready.__getitem__, default=None)
        return worker if worker is not None and self._ready[worker] < AT_A_TIME else None

    def _done(self, running: Mapping[Any, object]) -> list[Any]:
        """The parts that are judged, or lost, after a short wait; workers that have started become ready."""
        references = [*running, *self._starting]
        if not references:
            return []
        try:
            done, _ = self._ray.wait(references, num_returns=1, timeout=_SIGNAL_SECONDS, fetch_local=False)
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            raise MissingPart(
                f"the Ray cluster is lost: {_line(error)}", "the same command with --resume continues"
            ) from error
        for reference in done:
            if reference in self._starting:
                self._add(reference)
        return [reference for reference in done if reference in running]

    def _result(self, reference: Any, worker: Any, part: Part, tries: int) -> JudgedPart | None:
        """What a worker returned; None if it died."""
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            # a defect in our own code
            raise
        except self._ray.exceptions.RayError as error:
            if self._ready.pop(worker, None) is not None:
                with suppress(self._ray.exceptions.RayError):
                    self._ray.kill(worker)
                self._start()
            if tries < _MOST_TRIES:
                return None
            place = f"{part.file}:{part.line}" if part.data else part.file
            raise MissingPart(
                f"{tries} workers of the Ray cluster died of the part at {place}: {_line(error)}",
                "the same command with --resume continues",
            ) from error
        if worker in self._ready:
            self._ready[worker] -= 1
        if isinstance(result, _Failure):
            raise MissingPart(f"a worker of the Ray cluster cannot judge: {result}")
        assert isinstance(result, JudgedPart)
        return result

    def _connect(self) -> None:
        ray, address = self._ray, None if self._address == "ray" else self._address
        local = address is None and not os.environ.get("RAY_ADDRESS")
        options: dict[str, Any] = {"address": address, "logging_level": "error", "log_to_driver": False}
        if local:
            processors = self._count or os.cpu_count()
            options |= {"include_dashboard": False, "num_cpus": processors, "configure_logging": False}
        try:
            with warnings.catch_warnings(action="ignore"):
                ray.init(**options)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            place = address or os.environ.get("RAY_ADDRESS") or "this machine"
            raise MissingPart(
                f"no Ray cluster at {place}: {_line(error)}",
                "`ray start --head` starts one; its client port is 10001, and RAY_AUTH_TOKEN has its token",
            ) from error

    def _begin(self) -> None:
        """Start the workers, and wait for all of them for a while, then for one."""
        ray = self._ray
        self._workers = self._count or max(1, int(ray.cluster_resources().get("CPU", 1)))
        snapshot, *rest = self._setup
        shared = ray.put(snapshot)
        actor = ray.remote(num_cpus=1, max_restarts=0, runtime_env={"env_vars": _ONE_THREAD})(_Worker)
        self._make: Callable[[], Any] = lambda: actor.remote(shared, *rest)
        for _ in range(self._workers):
            self._start()
        until = time.monotonic() + _START_SECONDS
        while self._starting and (time.monotonic() < until or not self._ready):
            self._done({})
            if time.monotonic() >= until and not self._ready:
                self._notify("no worker of the Ray cluster is ready yet: its processors may be taken by other jobs")
                until += _START_SECONDS
        self._notify(f"judging on Ray with {plural(len(self._ready), 'worker')}")

    def _start(self) -> None:
        worker = self._make()
        self._starting[worker.state.remote()] = worker

    def _add(self, reference: Any) -> None:
        """Make a worker ready that has started, if it judges as this process does."""
        worker = self._starting.pop(reference)
        try:
            state = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_TRIES:
                raise MissingPart(f"workers of the Ray cluster do not start: {_line(error)}") from error
            self._start()
            return
        if isinstance(state, _Failure):
            raise MissingPart(f"a worker of the Ray cluster cannot judge: {state}")
        if state != self._state:
            raise MissingPart(
                "a worker of the Ray cluster would judge in another way: its version of Precedent, its packages or "
                "its language model are not those of this machine"
            )
        self._ready[worker] = 0


def _line(error: Exception) -> str:
    """What an error says, in one line of limited length."""
    return " ".join((str(error) or type(error).__name__).split())[:300]


def _ray() -> Any:
    if find_spec("ray") is None:
        raise MissingPart(
            "--on ray needs the package ray", "pip install 'precedent-agent[ray]' (in a clone: make extras)"
        )
    # nothing is reported to the makers of Ray
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    has_token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ) or (
        Path.home() / ".ray/auth_token"
    ).exists()
    if has_token:
        # a client of a cluster does not look for the token by itself
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    return ray
