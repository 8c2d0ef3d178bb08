"""A watch judges each record exactly once: across crashes, rotation, corrections; and stores what it counted."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.bulk import watch as watch_module
from agent.bulk import watch_feed
from agent.bulk.runner import BulkOptions, BulkRunner
from agent.bulk.watch import Watch, WatchOptions
from agent.bulk.watch_feed import StdinFeed
from agent.core.errors import UsageError
from agent.data import tail
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from benchmarks.watch import Run, exactly_once, line_of
from retrieval.store import watch as store
from tests.conftest import make_settings

BAD, GOOD = line_of(997), line_of(5)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AppContext, Path]]:
    home = tmp_path_factory.mktemp("watch")
    numbers = [*range(1, 40), *range(0, 9_970, 997)]
    (home / "cases.log").write_text(
        "".join(f"{'bad' if number % 997 == 0 else '-'} {line_of(number)}\n" for number in numbers)
    )
    context = AppContext(make_settings(home / "home", model="none"))
    learn(context, [home / "cases.log"], "app", ReadOptions(label="0", normal=("-",)), brief="an application")
    yield context, home
    context.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(watch_module, "_SOURCE", 0.0)


class Watched:
    """Files and output of one test."""

    def __init__(self, context: AppContext, folder: Path) -> None:
        self.context, self.folder = context, folder
        self.log, self.output = folder / "app.log", folder / "out.jsonl"
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep a notice; the tests share a source, whose drift from one to the next is true but none of theirs."""
        if "of the newest records are anomalous" not in text:
            self.notes.append(text)

    def add(self, *lines: str, end: str = "\n") -> None:
        with self.log.open("a") as stream:
            stream.write("\n".join(lines) + end)

    def watch(self, *names: str, **options: Any) -> Watch:
        read = ReadOptions.model_validate({**(self.context.source("app").reading or {}), "label": None})
        wanted = {"output": self.output, "once": True, "detail": "full", **options}
        return Watch(self.context, read, WatchOptions(names or (str(self.log),), "app", **wanted), self.note)

    def run(self, *names: str, **options: Any) -> list[tuple[int, str, str]]:
        """Line, label and text of all verdicts so far, after a watch has judged what is there."""
        self.watch(*names, **options).run()
        return self.verdicts()

    def verdicts(self) -> list[tuple[int, str, str]]:
        bodies = [json.loads(line) for line in self.output.read_text().splitlines()]
        return [(body["record"]["line"], body["label"], body["record"]["text"]) for body in bodies]


@pytest.fixture
def watched(learned: tuple[AppContext, Path], tmp_path: Path) -> Watched:
    return Watched(learned[0], tmp_path)


def test_each_line_once_over_several_runs(watched: Watched) -> None:
    watched.add(GOOD, BAD)
    assert watched.run() == [(1, "normal", GOOD), (2, "anomalous", BAD)]
    assert len(watched.run()) == 2
    watched.add(GOOD)
    assert watched.run()[2:] == [(3, "normal", GOOD)]
    watched.log.rename(watched.folder / "app.log.1")
    watched.add(BAD)
    assert watched.run()[3:] == [(1, "anomalous", BAD)]


def test_what_was_written_but_not_committed_is_written_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.add(*map(line_of, range(1, 50)))
    first = watched.run()
    watched.add(*map(line_of, range(50, 90)))
    before = sum(count for *_, count in store.live_counts(watched.context.casebook.engine, "app"))

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", crash)
        with pytest.raises(KeyboardInterrupt):
            watched.watch().run()
    assert len(watched.verdicts()) == 89, "the lines were written before the crash"
    assert watched.run() == [*first, *((number, "normal", line_of(number)) for number in range(50, 90))]
    after = sum(count for *_, count in store.live_counts(watched.context.casebook.engine, "app"))
    assert after - before == 40


def test_a_crash_before_the_first_commit(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.output.write_text("")
    watched.add(GOOD, BAD)
    commit = store.commit

    def crash(*arguments: Any) -> None:
        if arguments[4]:
            raise KeyboardInterrupt
        commit(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", crash)
        with pytest.raises(KeyboardInterrupt):
            watched.watch().run()
    assert len(watched.verdicts()) == 2
    assert len(watched.run()) == 2


def test_drift_is_noted_with_the_command_that_says_what_to_do(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = watch_module.measure_drift(watched.context, "app").model_copy(update={"findings": ["too many new lines"]})
    monkeypatch.setattr(watch_module, "measure_drift", lambda *_: found)
    watched.add(GOOD)
    watched.run()
    watched.add(GOOD)
    watched.run()
    assert watched.notes.count("too many new lines (what to do: precedent sources propose app)") == 2, "once a watch"


def test_from_the_end_of_what_is_there(watched: Watched) -> None:
    watched.add(GOOD)
    assert watched.run(at_end=True) == []
    watched.add(BAD)
    assert watched.run(at_end=True) == [(2, "anomalous", BAD)]


def test_two_processes_do_not_write_the_same_output(watched: Watched) -> None:
    watched.add(GOOD)
    first = watched.watch()
    with pytest.raises(UsageError, match="another process"):
        watched.watch()
    first.run()
    assert len(watched.run()) == 1


def test_killed_twice_and_rotated_twice(learned: tuple[AppContext, Path], tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PRECEDENT_HOME": str(learned[1] / "home"),
        "PRECEDENT_MODEL": "none",
        "PRECEDENT_OFFLINE": "1",
    }
    outcome = exactly_once(tmp_path, Run(6_000, 1_000), "app", environment, pause=0.1)
    assert outcome.is_exact, outcome


def test_an_entry_waits_for_its_last_line(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_feed, "IDLE_SECONDS", 0.4)
    watched.add(GOOD, BAD, "  at Store.write(Store.java:7)")
    follow = watched.watch(once=False)
    shown: list[int] = []

    def show(current: Watch) -> None:
        shown.append(current.counts.total())
        if len(shown) == 1:
            watched.add("  at Worker.run(Worker.java:3)", GOOD, "half a li", end="")
        if current.counts.total() == 3:
            current.stop()

    follow.show = show
    follow.run()
    assert shown[0] == 1, "only the first entry is known to be whole"
    trace = f"{BAD}\n  at Store.write(Store.java:7)\n  at Worker.run(Worker.java:3)"
    assert [text for _, _, text in watched.verdicts()] == [GOOD, trace, GOOD]


def test_groups_and_counts_are_stored(watched: Watched) -> None:
    engine = watched.context.casebook.engine
    before = {(group.template, group.label): group for group in store.live_groups(engine, "app")}
    watched.add(GOOD, BAD, line_of(1_994), GOOD)
    met = []
    follow = watched.watch()
    follow.on_group = met.append
    follow.run()
    (group,) = {(group.template, group.label): group for group in met}.values()
    stored = next(group_ for group_ in store.live_groups(engine, "app") if group_.template == group.template)
    old = before.get((group.template, group.label))
    assert stored.count - (old.count if old else 0) == 2
    assert stored.last_seen == f"{watched.log}:3"
    assert stored.why
    assert watched.context.history.get(stored.verdict_id) is not None, "its verdict can be explained"
    minutes = store.live_counts(engine, "app", since=datetime(2020, 1, 1, tzinfo=UTC))
    assert {label for _, _, label, _ in minutes} >= {"normal", "anomalous"}
    assert store.mute(engine, "app", group.template)
    assert stored.template in {group.template for group in store.live_groups(engine, "app", muted=True)}
    assert store.mute(engine, "app", group.template, muted=False)
    assert store.acknowledge(engine, "app", group.template)
    assert not store.acknowledge(engine, "app", "t-none")


def test_only_some_labels_and_short_lines(watched: Watched) -> None:
    watched.add(GOOD, BAD)
    watched.watch(detail="compact", only=frozenset({"anomalous"})).run()
    (body,) = [json.loads(line) for line in watched.output.read_text().splitlines()]
    assert (body["file"], body["line"], body["label"]) == (str(watched.log), 2, "anomalous")
    assert set(body) == {"file", "line", "label", "probability", "template"}


def test_a_folder_with_files_of_several_formats(watched: Watched) -> None:
    folder = watched.folder / "logs"
    folder.mkdir()
    (folder / "a.log").write_text(f"{GOOD}\n{BAD}\n")
    (folder / "b.jsonl").write_text(json.dumps({"message": BAD}) + "\n")
    (folder / "c.parquet").write_bytes(b"PAR1xxxx")
    read = [(line, label) for line, label, _ in watched.run(str(folder))]
    assert sorted(read)[:2] == [(1, "normal"), (2, "anomalous")] or len(read) == 3
    assert any("c.parquet" in note for note in watched.notes)
    with (folder / "b.jsonl").open("a") as stream:
        stream.write(json.dumps({"message": GOOD}) + "\n")
    assert watched.run(str(folder))[3][0] == 2, "numbers go on"


def test_a_shorter_output_is_refused(watched: Watched) -> None:
    watched.add(GOOD)
    watched.run()
    watched.output.write_text("")
    with pytest.raises(UsageError, match="shorter than what was written"):
        watched.watch()


def test_an_output_that_was_moved_away_is_begun_again(watched: Watched) -> None:
    watched.add(GOOD)
    watched.run()
    watched.output.rename(watched.folder / "older.jsonl")
    watched.add(BAD)
    assert watched.run() == [(2, "anomalous", BAD)]
    assert "was moved away" in watched.notes[0]


def test_what_an_output_held_before_stays(watched: Watched) -> None:
    watched.output.write_text('{"kept": true}\n')
    watched.add(GOOD)
    watched.watch().run()
    assert watched.output.read_text().startswith('{"kept": true}\n{"id"')


def test_corrections_count_from_the_next_line_on(watched: Watched) -> None:
    text = "2026-01-01 00:00:00 INFO worker: cache emptied by operator"
    watched.add(text)
    watched.run()
    verdict = json.loads(watched.output.read_text().splitlines()[0])
    from agent.training import feedback

    feedback.correct(watched.context, verdict["id"], "anomalous")
    watched.add(text)
    assert watched.run()[-1][1] == "anomalous"


def test_standard_input_to_its_end(learned: tuple[AppContext, Path]) -> None:
    reader, writer = os.pipe()
    feed = StdinFeed(ReadOptions(multiline="off"), 65_536, reader)
    os.write(writer, f"{GOOD}\n{BAD[:20]}".encode())
    pieces = []
    deadline = time.monotonic() + 10
    while not pieces and time.monotonic() < deadline:
        pieces += feed.poll()
    os.write(writer, BAD[20:].encode())
    os.close(writer)
    while not feed.ended and time.monotonic() < deadline:
        pieces += feed.poll()
        time.sleep(0.01)
    assert [(piece.chunk.first, piece.chunk.data.decode()) for piece in pieces] == [(1, f"{GOOD}\n"), (2, f"{BAD}\n")]


def test_a_file_that_cannot_be_read_is_named_once_and_the_others_go_on(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.add(GOOD)
    broken = watched.folder / "a.log"
    broken.write_text(f"{GOOD}\n")
    read = tail.OpenFile.read

    def failing(file: tail.OpenFile, limit: int) -> bytes:
        if file.position.path == str(broken):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(file, limit)

    monkeypatch.setattr(tail.OpenFile, "read", failing)
    watch = watched.watch(str(broken), str(watched.log))
    watch.run()
    assert (watch.counts.total(), watch.exit_code) == (1, 1)
    assert watched.notes == [f"{broken} cannot be read: Input/output error"]


def test_files_that_are_not_there_are_named(watched: Watched) -> None:
    gone, loop, pattern = (str(watched.folder / name) for name in ("gone.log", "loop.log", "*.txt"))
    Path(loop).symlink_to(loop)
    watch = watched.watch(gone, loop, str(watched.log))
    watch.run()
    assert watch.exit_code == 2
    assert [note.partition(": ")[0] for note in watched.notes] == [gone, loop, str(watched.log)]
    watched.notes.clear()
    watched.add(GOOD)
    watch = watched.watch(gone, str(watched.log))
    watch.run()
    assert (watch.exit_code, watch.counts.total()) == (0, 1)
    watch = watched.watch(pattern)
    watch.run()
    assert (watch.exit_code, watched.notes[-1]) == (2, f"no file in {pattern}")
    watched.notes.clear()
    watch = watched.watch(gone, once=False)
    looks = iter((1, 2, 3))
    watch.show = lambda _: watch.stop() if next(looks) == 3 else None
    watch.run()
    assert (watch.exit_code, watched.notes) == (0, [f"waits for {gone}: No such file or directory"])


@pytest.mark.parametrize("odd", ["", "\0", "\x1b[0m"])
def test_lines_that_are_nothing_but_a_label_are_named(watched: Watched, odd: str) -> None:
    read = ReadOptions.model_validate(watched.context.source("app").reading).model_copy(update={"multiline": "off"})
    watched.add(f"- {GOOD}", "Killed", "", f"bad {BAD}{odd}")
    reason = f"{watched.log}:2: its only word is the label column"
    options = BulkOptions(files=(str(watched.log),), source="app", detail="compact", to="jsonl")
    runner = BulkRunner(watched.context, read, options, lambda *_, **__: None, watched.notes.append)
    summary = runner.run(watched.folder / "bulk.jsonl")
    assert (summary.records, summary.blank, [str(failure) for failure in runner.failures]) == (2, 1, [reason])
    watch = Watch(watched.context, read, WatchOptions((str(watched.log),), "app", once=True), watched.notes.append)
    watch.run()
    assert (watch.counts.total(), watch.failures, reason in watched.notes) == (2, 1, True)


def test_what_cannot_be_followed_is_refused_by_name_at_the_start(watched: Watched) -> None:
    pipe = watched.folder / "app.fifo"
    os.mkfifo(pipe)
    for name in (str(pipe), "/dev/null"):
        with pytest.raises(UsageError, match=rf"{name} cannot be followed: it is a (pipe|device)"):
            watched.watch(name)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_refused_by_name(watched: Watched, encoding: str) -> None:
    mark = "\ufeff".encode(encoding)
    watched.log.write_bytes(mark + f"{GOOD}\n{BAD}\n".encode(encoding))
    follow = watched.watch()
    follow.run()
    assert watched.verdicts() == []
    assert follow.exit_code == 1
    assert watched.notes == [
        f"not followed: {watched.log}: is UTF-16, which is not followed while it grows: judge it, or write it as UTF-8"
    ]


def stream_in(watched: Watched, monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[tuple[str, str]]:
    """Labels and texts of the verdicts of what comes on standard input."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as stream:
        stream.write(content)
    monkeypatch.setattr("sys.stdin", os.fdopen(reader))
    watched.watch("-").run()
    return [(label, text) for _, label, text in watched.verdicts()]


def test_a_stream_of_journalctl(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `journalctl -f -o json` writes it; a message that is not UTF-8 comes as its bytes."""
    messages: list[str | list[int] | None] = [GOOD, BAD, list(f"{BAD} caf\u00e9".encode())]
    lines = [
        {
            "__CURSOR": f"s=4a;i={number:x}",
            "__REALTIME_TIMESTAMP": "1767225600123456",
            "_BOOT_ID": "9f",
            "_SYSTEMD_UNIT": "app.service",
            "PRIORITY": "6",
            "_PID": "77",
            "MESSAGE": message,
        }
        for number, message in enumerate(messages)
    ]
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    found = stream_in(watched, monkeypatch, content)
    assert found == [("normal", GOOD), ("anomalous", BAD), (found[2][0], f"{BAD} caf\u00e9")]
    assert watched.notes == [
        "standard input cannot be read again: what a watch that is killed was judging is not judged",
        "standard input: these are lines as journald writes them: their text is 'MESSAGE' (--text names others)",
    ]


def test_a_stream_of_kubectl_logs(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `kubectl logs -f` writes it: what the container wrote, as it is."""
    assert stream_in(watched, monkeypatch, f"{GOOD}\n{BAD}\n".encode()) == [("normal", GOOD), ("anomalous", BAD)]
    assert len(watched.notes) == 1


def test_a_stream_of_a_kubernetes_collector(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = {"pod_name": "app-7f", "namespace_name": "shop"}
    lines = [{"log": f"{text}\n", "stream": "stdout", "kubernetes": pod} for text in (GOOD, BAD)]
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    assert stream_in(watched, monkeypatch, content) == [("normal", GOOD), ("anomalous", BAD)]
    assert "their text is 'log'" in watched.notes[1]
