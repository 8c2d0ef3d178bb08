"""Parts judged by other processes: the files of a local run, byte for byte, whoever judged what and whoever died."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.bulk.options import BulkOptions
from agent.bulk.part_judge import JudgedPart, Part, PartJudge
from agent.bulk.ray_runner import RayRunner
from agent.bulk.runner import BulkRunner
from agent.bulk.snapshot import Snapshot
from agent.bulk.summary import Summary
from agent.cli.judge_bulk import runner_type
from agent.core.errors import InputError, MissingPart, UsageError
from agent.data.read_options import ReadOptions
from agent.data.series import SeriesOptions
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from tests.conftest import POSTGRES, make_settings, missing
from tests.ray_workers import workers

LOG = ReadOptions(format="log", label="0", normal=("-",), multiline="off")
BLOCK = 2_048


def quiet(*_: object, **__: object) -> None:
    pass


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AppContext, list[Path]]]:
    """Sources `pg` (lines) and `rows` (a table), and files to judge: two logs, of which one is damaged, and a table."""
    home = tmp_path_factory.mktemp("ray")
    lines = (POSTGRES / "learn.log").read_bytes().splitlines(keepends=True)
    (home / "learn.log").write_bytes(b"".join(lines[:100]))
    context = AppContext(make_settings(home / "home", model="none"))
    learn(context, [home / "learn.log"], "pg", LOG, brief="PostgreSQL")
    judged = (POSTGRES / "judge.log").read_bytes().splitlines(keepends=True)[:120]
    files = [home / "a.log", home / "b.log"]
    files[0].write_bytes(b"".join([*judged, *lines[50:70], b"- \xff broken\n\n"]))
    files[1].write_bytes(b"".join([*reversed(judged), *lines[:20]]))
    table = "size,kind,label\n" + "".join(f"{n % 17},k{n % 3},{int(n % 9 == 8)}\n" for n in range(90))
    (home / "learn.csv").write_text(table)
    learn(context, [home / "learn.csv"], "rows", ReadOptions(format="csv", label="label"), brief="rows")
    files.append(home / "c.csv")
    files[2].write_text(table.replace("k1", "k2"))
    yield context, files
    context.close()


def runner_of(
    kind: type[BulkRunner],
    context: AppContext,
    *files: Path,
    source: str = "pg",
    reading: ReadOptions | None = None,
    **changed: Any,
) -> Any:
    reading = reading or ReadOptions.model_validate(context.source(source).reading)
    options = {"detail": "compact", "to": "jsonl", "chunk_size": BLOCK, **changed}
    chosen = BulkOptions(files=tuple(map(str, files)), source=source, **options)
    return kind(context, reading, chosen, quiet, quiet)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of some lines have many parts."""
    monkeypatch.setattr("agent.data.readers.byte_stream._CHUNK", BLOCK)
    monkeypatch.setattr("agent.data.record_parts._ROWS", 16)


class TwoJudges:
    """A cluster of two workers in this process, which get parts in turn; it is lost at the part of a number."""

    lost_at: int | None = None

    def __init__(
        self, address: str, workers: int | None, snapshot: Snapshot, read: ReadOptions, options: BulkOptions, *_: object
    ) -> None:
        self.home = Path(os.environ["TWO_JUDGES"])
        self.snapshot, self.setup = snapshot, (read, options, quiet, quiet)

    def __enter__(self) -> TwoJudges:
        self.contexts = [self.snapshot.open(self.home / str(number), threads=1) for number in range(2)]
        self.judges = [PartJudge(context, *self.setup) for context in self.contexts]
        return self

    def __exit__(self, *_: object) -> None:
        for context in self.contexts:
            context.close()

    def judge(self, parts: Iterator[Part]) -> Iterator[tuple[Part, JudgedPart]]:
        for number, part in enumerate(parts):
            if number == self.lost_at:
                raise MissingPart("the cluster is lost")
            yield part, self.judges[number % 2].judge(part)


@pytest.fixture
def two_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[TwoJudges]:
    monkeypatch.setenv("TWO_JUDGES", str(tmp_path / "judges"))
    monkeypatch.setattr(RayRunner, "cluster", TwoJudges)
    monkeypatch.setattr(TwoJudges, "lost_at", None)
    return TwoJudges


def timeless(text: str) -> str:
    """Without the time that the verdict of a row took."""
    return re.sub(r'"elapsed_ms":\s*[0-9.]+', '"elapsed_ms": 0', text)


def written(folder: Path) -> dict[str, str]:
    return {path.name: timeless(path.read_text(encoding="utf-8")) for path in sorted(folder.iterdir())}


def same(summary: Summary, other: Summary) -> None:
    assert timeless(summary.model_dump_json(exclude={"seconds"})) == timeless(
        other.model_dump_json(exclude={"seconds"})
    )


@pytest.mark.parametrize("detail", ["compact", "full"])
@pytest.mark.parametrize("source", ["pg", "rows"])
def test_parts_judged_elsewhere_give_the_bytes_of_a_local_run(
    learned: tuple[AppContext, list[Path]], two_judges: object, tmp_path: Path, detail: str, source: str
) -> None:
    context, files = learned
    files = files[:2] if source == "pg" else files[2:]
    (tmp_path / "local").mkdir()
    (tmp_path / "parts").mkdir()
    local = runner_of(BulkRunner, context, *files, source=source, detail=detail)
    elsewhere = runner_of(RayRunner, context, *files, source=source, detail=detail)
    same(elsewhere.run(tmp_path / "parts" / "o"), local.run(tmp_path / "local" / "o"))
    assert written(tmp_path / "parts") == written(tmp_path / "local")
    assert elsewhere.failures == local.failures
    if detail == "compact" and source == "pg":
        templates = written(tmp_path / "parts")["o.templates.jsonl"].splitlines()
        ids = {json.loads(line)["id"] for line in templates}
        assert ids == {verdict_id for verdict_id in ids if context.history.get(verdict_id)}, "ids can be corrected"


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_tables_of_texts_are_judged_by_the_block(
    learned: tuple[AppContext, list[Path]], two_judges: object, tmp_path: Path, format: str
) -> None:
    context, (log, *_) = learned
    texts = [line.decode("utf-8", "replace")[2:].strip() for line in log.read_bytes().splitlines()]
    rows = [json.dumps({"message": text}) for text in texts if text]
    if format == "csv":
        rows = ["message", *('"' + text.replace('"', '""') + '"' for text in texts if text), '"in two', 'lines 17"']
    file = tmp_path / f"texts.{format}"
    file.write_text("\n".join(rows) + "\n")
    for folder in ("local", "parts"):
        (tmp_path / folder).mkdir()
    reading = ReadOptions(format=format, text=("message",))
    local, parts = (runner_of(kind, context, file, reading=reading) for kind in (BulkRunner, RayRunner))
    same(parts.run(tmp_path / "parts" / "o"), local.run(tmp_path / "local" / "o"))
    assert written(tmp_path / "parts") == written(tmp_path / "local")
    assert len(list(parts._parts(0, (0, 1)))) > 1


def test_a_lost_cluster_is_resumed_to_the_same_bytes(
    learned: tuple[AppContext, list[Path]],
    two_judges: type[TwoJudges],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, (first, second, _) = learned
    (tmp_path / "local").mkdir()
    (tmp_path / "parts").mkdir()
    runner_of(BulkRunner, context, first, second).run(tmp_path / "local" / "o")
    monkeypatch.setattr("agent.bulk.runner._PAUSE", 0.0)
    monkeypatch.setattr("agent.bulk.runner._PAUSES", 0)
    # the first part of the second file comes after it
    for lost_at in (5, 6, None):
        two_judges.lost_at = lost_at
        run = runner_of(RayRunner, context, first, second)
        resume = (tmp_path / "parts" / "o").exists()
        if lost_at is None:
            run.run(tmp_path / "parts" / "o", resume=resume)
        else:
            with pytest.raises(MissingPart):
                run.run(tmp_path / "parts" / "o", resume=resume)
    assert written(tmp_path / "parts") == written(tmp_path / "local")


def test_what_needs_one_process_is_refused(learned: tuple[AppContext, list[Path]]) -> None:
    context, files = learned
    series = ReadOptions(series=SeriesOptions())
    with pytest.raises(UsageError, match="--on ray: a time series is judged in its order"):
        RayRunner(context, series, BulkOptions((str(files[2]),), "rows", "compact", "jsonl"), quiet, quiet)
    for limit in ({"calls": 3}, {"seconds": 1.0}):
        with pytest.raises(UsageError, match="--on ray: --llm-calls and --time-limit"):
            runner_of(RayRunner, context, files[0], **limit)


def test_a_snapshot_judges_as_its_source(learned: tuple[AppContext, list[Path]], tmp_path: Path) -> None:
    context, files = learned
    folder = context.settings.home / "detectors" / "pg"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"of a network")
    opened = Snapshot.of(context, "pg").open(tmp_path / "other", threads=1)
    assert opened.casebook.names() == ["pg"]
    assert (tmp_path / "other" / "detectors" / "pg" / "weights").read_bytes() == b"of a network"
    judge = PartJudge(opened, LOG, BulkOptions((str(files[0]),), "pg", "compact", "jsonl"), quiet, quiet)
    assert judge.state == runner_of(BulkRunner, context, files[0])._judge.state
    opened.close()


@pytest.mark.parametrize("on", ["rays", "ray://", "ray:8000", "http://x", "ray://a/b"])
def test_a_wrong_address_is_a_usage_error(on: str) -> None:
    with pytest.raises(UsageError, match="use ray, or ray://HOST:PORT"):
        runner_type(on)


def test_another_machine_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for on in ("ray", "ray://127.0.0.1:10001"):
        runner_type(on)
    assert capsys.readouterr().err == ""
    runner_type("ray://head:10001")
    assert "records leave this machine: --on sends them to the cluster at head" in capsys.readouterr().err


def test_without_the_extra_the_error_names_it(
    learned: tuple[AppContext, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("agent.bulk.ray_cluster.find_spec", lambda name: None if name == "ray" else found(name))
    context, files = learned
    with pytest.raises(MissingPart, match="--on ray needs the package ray") as error:
        runner_of(RayRunner, context, files[0]).run(tmp_path / "o")
    assert "precedent-agent[ray]" in str(error.value.hint)


def _needs_ray() -> Any:
    if importlib.util.find_spec("ray") is None:
        missing("ray", "ray is not installed: make extras")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    return ray


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A Ray cluster of two nodes on this machine, with one processor each; a function that stops the second one."""
    ray = _needs_ray()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = cluster.add_node(**node)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield lambda: cluster.remove_node(second, allow_graceful=False)
    ray.shutdown()
    cluster.shutdown()


def _kill_a_worker() -> None:
    os.kill(workers()[0], signal.SIGKILL)


@pytest.mark.extras
@pytest.mark.network
@pytest.mark.enable_socket
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lost", ["a worker", "a node"])
def test_on_two_nodes_one_that_is_lost_loses_nothing(
    learned: tuple[AppContext, list[Path]], two_nodes: Callable[[], None], tmp_path: Path, lost: str
) -> None:
    context, (first, second, table) = learned
    for folder in ("local", "ray"):
        (tmp_path / folder).mkdir()
    local = runner_of(BulkRunner, context, first, second)
    local.run(tmp_path / "local" / "o")
    run, calls = runner_of(RayRunner, context, first, second), list[str]()

    def lose_one(doing: str, *_: object) -> None:
        if doing == "judging" and not calls:
            calls.append(doing)
            (two_nodes if lost == "a node" else _kill_a_worker)()

    run.progress = lose_one
    summary = run.run(tmp_path / "ray" / "o")
    assert calls
    assert written(tmp_path / "ray") == written(tmp_path / "local")
    same(summary, local.summary)
    (table.parent / "empty.csv").write_text("size,kind,label\n")
    with pytest.raises(InputError, match=r"empty\.csv: has no records"):
        runner_of(RayRunner, context, table, table.parent / "empty.csv", source="rows").run(tmp_path / "rows")
    assert len((tmp_path / "rows").read_text().splitlines()) == 90, "what came before the error is written"
