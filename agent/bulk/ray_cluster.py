"""Workers on a Ray cluster that judge parts, and hand back their results in order.

The workers are actors of Ray's core. Ray Data's `map_batches` is not used: it does not run on a client of a cluster
(``ray://``), and it reads its input on the cluster's nodes, where the files of this machine are not.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator
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
# how often a part is judged again when its worker dies
_RETRIES = 3
# seconds between two looks at signals
_SIGNAL_SECONDS = 0.2
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
        self._ray = ray = _ray(is_client=self._address != "ray")
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            self._connect()
        try:
            self._start_workers()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ray = self._ray
        with suppress(ray.exceptions.RayError, ConnectionError):
            if kind is None:
                ray.wait([worker.close.remote() for worker in self._workers], num_returns=len(self._workers), timeout=5)
            for worker in self._workers:
                ray.kill(worker)
        if self._is_ours:
            ray.shutdown()

    def judge(self, parts: Iterator[Part]) -> Iterator[tuple[Part, JudgedPart]]:
        """Yield each part and its results, in order; an error of ``parts`` is raised after the parts before it.

        Raises
        ------
        MissingPart
            A worker cannot judge, or the cluster is lost.
        """
        ray, load = self._ray, [0] * len(self._workers)
        waiting, running = deque[tuple[Part, Any]](), dict[Any, int]()
        failure: Exception | None = None
        is_last = False
        while True:
            while not is_last and len(waiting) < AHEAD * len(load) and min(load) < AT_A_TIME:
                try:
                    part = next(parts, None)
                except Exception as error:
                    failure, part = error, None
                if part is None:
                    is_last = True
                    break
                worker = load.index(min(load))
                reference = self._workers[worker].judge.remote(part)
                load[worker] += 1
                running[reference] = worker
                waiting.append((part, reference))
            if not waiting:
                break
            if running:
                done, _ = ray.wait(list(running), num_returns=1, timeout=_SIGNAL_SECONDS, fetch_local=False)
                for reference in done:
                    load[running.pop(reference)] -= 1
            while waiting and waiting[0][1] not in running:
                part, reference = waiting.popleft()
                yield part, self._result(part, reference)
        if failure is not None:
            raise failure

    def _result(self, part: Part, reference: Any) -> JudgedPart:
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            # a defect in our own code
            raise
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            place = f"{part.file}:{part.line}" if part.data else part.file
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise MissingPart(
                f"the Ray cluster did not judge the part at {place}, {_RETRIES + 1} times tried: {reason}",
                "the same command with --resume continues",
            ) from error
        if isinstance(result, _Failure):
            raise MissingPart(f"a worker of the Ray cluster cannot judge: {result}")
        assert isinstance(result, JudgedPart)
        return result

    def _connect(self) -> None:
        ray, address = self._ray, None if self._address == "ray" else self._address
        local = address is None and not os.environ.get("RAY_ADDRESS")
        options: dict[str, Any] = {"address": address, "logging_level": "error", "log_to_driver": False}
        if local:
            options |= {
                "include_dashboard": False,
                "num_cpus": self._count or os.cpu_count(),
                "configure_logging": False,
            }
        try:
            with warnings.catch_warnings(action="ignore"):
                ray.init(**options)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            place = address or os.environ.get("RAY_ADDRESS") or "this machine"
            raise MissingPart(
                f"no Ray cluster at {place}: {' '.join(str(error).split())[:300]}",
                "`ray start --head` starts one; its client port is 10001, and RAY_AUTH_TOKEN has its token",
            ) from error

    def _start_workers(self) -> None:
        ray = self._ray
        self._workers: list[Any] = []
        count = self._count or max(1, int(ray.cluster_resources().get("CPU", 1)))
        actor = ray.remote(
            num_cpus=1, max_restarts=-1, max_task_retries=_RETRIES, runtime_env={"env_vars": _ONE_THREAD}
        )(_Worker)
        snapshot, *rest = self._setup
        shared = ray.put(snapshot)
        self._kept = shared
        self._workers = [actor.remote(shared, *rest) for _ in range(count)]
        for state in self._ray.get([worker.state.remote() for worker in self._workers]):
            if isinstance(state, _Failure):
                raise MissingPart(f"a worker of the Ray cluster cannot judge: {state}")
            if state != self._state:
                raise MissingPart(
                    "a worker of the Ray cluster would judge in another way: its version of Precedent, its packages or "
                    "its language model are not those of this machine"
                )
        self._notify(f"judging on Ray with {plural(count, 'worker')}")


def _ray(*, is_client: bool) -> Any:
    if find_spec("ray") is None:
        raise MissingPart(
            "--on ray needs the package ray", "pip install 'precedent-agent[ray]' (in a clone: make extras)"
        )
    # nothing is reported to the makers of Ray
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    has_token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ) or (
        Path.home() / ".ray/auth_token"
    ).exists()
    if is_client and has_token:
        # a client of a cluster does not look for the token by itself, as a process on one of its nodes does
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    return ray
