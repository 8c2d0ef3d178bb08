"""Workers on a Ray cluster that judge parts, and hand back their results in order.

The workers are actors of Ray's core. Ray Data's `map_batches` is not used: it does not run on a client of a cluster
(``ray://``), and it reads its input on the cluster's nodes, where the files of this machine are not.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.bulk.options import BulkOptions
from agent.bulk.part_judge import JudgedPart, Part
from agent.bulk.ray_workers import RETRIES, Actor, Failure, PartWorker, WorkerPool, first_line
from agent.bulk.snapshot import Snapshot
from agent.core.errors import MissingPart
from agent.core.terminal import plural
from agent.data.read_options import ReadOptions

# parts that wait for an earlier one to be written, for each worker
AHEAD = 4
# seconds between two looks at signals, and until work begins without the workers that are not ready, once one is
_SIGNAL_SECONDS, _OTHERS_SECONDS = 0.2, 20.0
_ONE_THREAD = {"POLARS_MAX_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(eq=False)
class _Task:
    """A part: its worker, the references to why it failed and to its results, and how often it was handed out.

    Without a result it is to be handed out: the worker died, or it is new.
    """

    part: Part
    actor: Actor
    failure: Any = None
    result: Any = None
    tries: int = 0


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
                closing = [actor.handle.close.remote() for actor in self._workers.ready]
                ray.wait(closing, num_returns=len(closing), timeout=5)
            for actor in self._workers.ready + self._workers.starting:
                ray.kill(actor.handle)
        if self._is_ours:
            ray.shutdown()

    def judge(self, parts: Iterator[Part]) -> Iterator[tuple[Part, JudgedPart]]:
        """Yield each part and its results, in order; an error of ``parts`` is raised after the parts before it.

        A part whose worker died is judged again by another.

        Raises
        ------
        MissingPart
            A worker cannot judge, or the cluster is lost.
        """
        waiting, running = deque[_Task](), list[_Task]()
        failure: Exception | None = None
        is_last = False
        while True:
            self._workers.update()
            while (actor := self._workers.least_busy()) and (again := next(filter(_is_lost, waiting), None)):
                self._hand_out(again, actor, running)
            while not is_last and len(waiting) < AHEAD * len(self._workers.ready) and actor:
                try:
                    part = next(parts, None)
                except Exception as error:
                    failure, part = error, None
                if part is None:
                    is_last = True
                    break
                waiting.append(_Task(part, actor))
                self._hand_out(waiting[-1], actor, running)
                actor = self._workers.least_busy()
            if not waiting:
                if is_last:
                    break
                time.sleep(_SIGNAL_SECONDS)
                continue
            self._await(running)
            while waiting and waiting[0] not in running and not _is_lost(waiting[0]):
                if (judged := self._result(waiting[0])) is not None:
                    yield waiting.popleft().part, judged
        if failure is not None:
            raise failure

    def _hand_out(self, task: _Task, actor: Actor, running: list[_Task]) -> None:
        task.actor, task.tries = actor, task.tries + 1
        judge = actor.handle.judge.options(num_returns=2)
        task.failure, task.result = judge.remote(task.part, is_again=task.tries > 1)
        actor.load += 1
        running.append(task)

    def _await(self, running: list[_Task]) -> None:
        """Wait until a part is done or a worker is ready, but not for long."""
        references = [task.failure for task in running] + [actor.state for actor in self._workers.starting]
        done, _ = self._ray.wait(references, num_returns=1, timeout=_SIGNAL_SECONDS)
        for task in [task for task in running if task.failure in done]:
            running.remove(task)
            task.actor.load -= 1
            self._fetch(task, task.failure)

    def _result(self, task: _Task) -> JudgedPart | None:
        """The results of a part that was judged; None if they are lost."""
        judged = self._fetch(task, task.result)
        assert judged is None or isinstance(judged, JudgedPart)
        return judged

    def _fetch(self, task: _Task, reference: Any) -> Any:
        """What a worker returned; None, and the part is to be judged again, where the worker died."""
        try:
            found = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            # a defect in our own code
            raise
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            if isinstance(error, ConnectionError) or task.tries > RETRIES:
                place = f"{task.part.file}:{task.part.line}" if task.part.data else task.part.file
                raise MissingPart(
                    f"the Ray cluster did not judge the part at {place}, {plural(task.tries, 'time')} tried: "
                    f"{first_line(error)}",
                    "the same command with --resume continues",
                ) from error
            self._workers.replace(task.actor)
            task.result = None
            return None
        if isinstance(found, Failure):
            raise MissingPart(f"a worker of the Ray cluster cannot judge: {found}")
        return found

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
        count = self._count or max(1, int(ray.cluster_resources().get("CPU", 1)))
        actor = ray.remote(num_cpus=1, runtime_env={"env_vars": _ONE_THREAD})(PartWorker)
        snapshot, *rest = self._setup
        shared: Any = None
        self._workers = workers = WorkerPool(ray, lambda: actor.remote(shared, *rest), self._state)
        shared = ray.put(snapshot)
        for _ in range(count):
            workers.start()
        first: float | None = None
        while workers.starting and (first is None or time.monotonic() - first < _OTHERS_SECONDS):
            ray.wait([actor.state for actor in workers.starting], num_returns=1, timeout=_SIGNAL_SECONDS)
            workers.update()
            first = first or (time.monotonic() if workers.ready else None)
        late = f"; {len(workers.starting)} more when the cluster has room" if workers.starting else ""
        self._notify(f"judging on Ray with {plural(len(workers.ready), 'worker')}{late}")


def _is_lost(task: _Task) -> bool:
    return task.result is None


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
