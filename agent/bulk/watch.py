"""Judging what is written while it is written: each record exactly once, across restarts.

Verdicts go to the output file first. Then one transaction stores how far each file was read, how long the output is,
and what was counted. After a crash the output is cut to the length of the last transaction, and reading goes on from
its positions: so no record is lost, and none is judged twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from agent.bulk.alerts import Alerter
from agent.bulk.output import Detail
from agent.bulk.watch_feed import FileFeed, StdinFeed
from agent.bulk.watch_judge import JudgedPiece, PieceJudge
from agent.core.errors import UsageError
from agent.core.records import VERDICT_LABELS
from agent.core.writing import cannot_be_written, writing
from agent.data.follow import Follower
from agent.data.read_options import ReadOptions
from agent.data.tail import Position, not_followed
from agent.pipeline.context import AppContext
from agent.training.drift import measure_drift
from retrieval.errors import NotWritable
from retrieval.store import watch as store
from retrieval.store.watch import LiveGroup

# seconds between two looks at the files, at the source, and at old counts
_POLL, _SOURCE, _PRUNE, _ROOM = 0.2, 5.0, 3_600.0, 2.0
_HINT = "then the same command continues"
Notify = Callable[[str], None]


@dataclass(frozen=True)
class WatchOptions:
    """Options of a watch.

    Attributes
    ----------
    names : tuple of str
        Files, folders or patterns; or "-" alone for standard input.
    output : Path or None
        Where verdicts are written; None: nowhere.
    only : frozenset of str
        Labels whose records are written.
    at_end : bool
        Whether to leave out what files hold when they are first seen.
    once : bool
        Whether to end when all that is there has been judged.
    """

    names: tuple[str, ...]
    source: str
    output: Path | None = None
    detail: Detail = "compact"
    only: frozenset[str] = frozenset(VERDICT_LABELS)
    at_end: bool = False
    once: bool = False

    @property
    def key(self) -> str:
        """Identifies the watch across restarts: what it follows, for which source, and where it writes."""
        output = str(self.output.resolve()) if self.output else None
        names = [name if name == "-" else str(Path(name).absolute()) for name in self.names]
        return hashlib.sha256(json.dumps([names, self.source, output, self.detail]).encode()).hexdigest()


@dataclass
class Watch:
    """One watch, from its start to its end.

    Parameters
    ----------
    context, read_options, options
    notify : callable
        Takes what a person should know.
    alerter : Alerter or None
    show : callable
        Called after each look at the files.
    on_group : callable
        Takes each template that is not normal when it is first met.

    Attributes
    ----------
    counts : Counter of str
        Records by label since the start.
    failures : int
        Records that could not be read or judged.
    """

    context: AppContext
    read_options: ReadOptions
    options: WatchOptions
    notify: Notify
    alerter: Alerter | None = None
    show: Callable[[Watch], None] = lambda _: None
    on_group: Callable[[LiveGroup], None] = lambda _: None
    counts: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    stopped: bool = False

    def __post_init__(self) -> None:
        self._engine = self.context.casebook.engine
        self._lock = self._locked()
        self._state = store.load_state(self._engine, self.options.key) or {}
        self._feed = self._open_feed()
        self._output = self._open_output()
        self._judge: PieceJudge | None = None
        self._pending, self._groups = Counter[str](), dict[tuple[str, str], LiveGroup]()
        self._met = set[tuple[str, str]]()
        self._checked = self._pruned = -math.inf

    def _locked(self) -> FileLock:
        lock = FileLock(self.context.settings.home / f"watch-{self.options.key[:16]}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError("another process watches the same files for the same source and output") from error
        except OSError as error:
            raise cannot_be_written(Path(lock.lock_file), error) from error
        return lock

    def _open_feed(self) -> FileFeed | StdinFeed:
        options, max_chars = self.options, self.context.settings.max_record_chars
        if "-" in options.names:
            if len(options.names) > 1:
                raise UsageError("standard input is watched alone: leave the files out")
            self.notify("standard input cannot be read again: what a watch that is killed was judging is not judged")
            return StdinFeed(self.read_options, max_chars, sys.stdin.fileno())
        for name in options.names:
            self._check(Path(name))
        positions = [Position.model_validate(position) for position in self._state.get("positions", ())]
        return FileFeed(
            Follower(options.names, positions, at_end=options.at_end and not self._state), self.read_options, max_chars
        )

    @staticmethod
    def _check(path: Path) -> None:
        """Refuse what cannot be followed at the start, where somebody sees it."""
        try:
            reason = not_followed(str(path), path.stat())
        except OSError:
            return
        if reason is not None:
            raise UsageError(f"{path} cannot be followed: {reason}")

    def _open_output(self) -> BinaryIO | None:
        """The output, cut to the length that was committed; what a file held before the first watch stays."""
        path = self.options.output
        if path is None:
            return None
        try:
            written = self._state.get("written")
            if written and not path.exists():
                self.notify(f"{path} was moved away: a new one is begun, with what follows the last verdict in it")
            if written is None or not path.exists():
                return path.open("ab")
            stream = path.open("r+b")
            if path.stat().st_size < written:
                raise UsageError(f"{path} is shorter than what was written to it: watch with another --output")
            stream.truncate(written)
            stream.seek(written)
        except OSError as error:
            raise cannot_be_written(path, error) from error
        return stream

    def run(self) -> None:
        """Judge what comes, until `stop` is called, standard input ends, or with ``once`` all is judged.

        Raises
        ------
        UsageError
            Another process runs the same watch.
        """
        try:
            if not self._state:
                # from here on a restart knows how long the output was, and where files began
                self._feed.refresh()
                self._commit()
            while True:
                judged = self._step(flush=self.options.once)
                self.show(self)
                if self.stopped or self._feed.ended or (self.options.once and not judged):
                    return
                if not judged:
                    time.sleep(_POLL)
        finally:
            self._feed.close()
            with writing(self.options.output, _HINT), self._output or nullcontext():
                pass
            if self.alerter is not None:
                self.alerter.close()
            self._lock.release()

    @property
    def exit_code(self) -> int:
        """2 if there was no file to read ``once``, 1 if one could not be read."""
        if self.options.once and not (self._feed.found or self._feed.has_failed):
            return 2
        return int(self._feed.has_failed)

    def stop(self) -> None:
        """End after what is being judged."""
        self.stopped = True

    def _step(self, *, flush: bool) -> bool:
        """Judge what is there now and commit it; whether there was anything."""
        judged = False
        for piece in self._feed.poll(flush=flush):
            judged = True
            self._write(self._current_judge().judge(piece))
            if self.stopped:
                break
        for note in self._feed.notes:
            self.notify(note)
        self._feed.notes.clear()
        if judged:
            self._commit_when_possible()
        if self.alerter is not None:
            self.alerter.send_due(self._engine, self.options.source)
        return judged

    def _current_judge(self) -> PieceJudge:
        """The judge of the source as it is now: corrections count from the next look on."""
        now = time.monotonic()
        if self._judge is None or now - self._checked >= _SOURCE:
            self._checked = now
            revision = self.context.source(self.options.source).revision
            if self._judge is None or self._judge.is_outdated(revision):
                self._judge = PieceJudge(self.context, self.options.source, self.options.detail, revision)
        return self._judge

    def _write(self, judged: JudgedPiece) -> None:
        if self._output is not None:
            with writing(self.options.output, _HINT):
                for line in judged.lines(self.options.only):
                    self._output.write(line)
        self.counts.update(judged.counts)
        self._pending.update(judged.counts)
        for failure in judged.failures:
            self.failures += 1
            self.notify(str(failure))
        for group in judged.groups(self.options.source):
            key = group.template, group.label
            if key not in self._met:
                self._met.add(key)
                self.on_group(group)
            if (earlier := self._groups.get(key)) is not None:
                group = LiveGroup(
                    **{
                        **vars(group),
                        "count": earlier.count + group.count,
                        "first_at": earlier.first_at,
                        "first_seen": earlier.first_seen,
                    }
                )
            self._groups[key] = group

    def _commit_when_possible(self) -> None:
        """Commit, and wait for that where the store cannot be written to; one that ends does not wait."""
        is_notified = False
        while True:
            try:
                self._commit()
                return
            except NotWritable as error:
                if self.options.once or self.stopped:
                    raise
                if not is_notified:
                    self.notify(f"{error}; the watch waits for that, and nothing is left out")
                is_notified = True
                time.sleep(_ROOM)

    def _commit(self) -> None:
        now = datetime.now(UTC)
        state: dict[str, Any] = {"positions": [position.model_dump() for position in self._feed.state()]}
        if self._output is not None:
            with writing(self.options.output, _HINT):
                self._output.flush()
            os.fsync(self._output.fileno())
            state["written"] = self._output.tell()
        groups = list(self._groups.values())
        store.commit(self._engine, self.options.key, self.options.source, state, self._pending, groups, now)
        self._pending, self._groups = Counter(), {}
        if time.monotonic() - self._pruned > _PRUNE:
            self._pruned = time.monotonic()
            store.prune(self._engine, now)
            self._note_drift()

    def _note_drift(self) -> None:
        """Say once an hour that the source's records drift, if they do."""
        findings = measure_drift(self.context, self.options.source).findings
        if findings:
            self.notify(f"{findings[0]} (what to do: precedent sources propose {self.options.source})")
