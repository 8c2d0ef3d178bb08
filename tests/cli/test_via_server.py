"""`--via-server`: a server that runs on the same data judges, and what is written is the same."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from agent.cli.via_server import ServerJudge
from agent.core.instance import announced, announced_url, identity
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from tests.api.keys import Keys, always_fresh
from tests.conftest import Run, make_settings
from tests.served import eventually, running

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
ROWS = "amount,country\n3,de\n1003.5,xx\nno,de\n17,fr\n"
ELAPSED = re.compile(r'"elapsed_ms": [\d.]+')
Judged = tuple[int, str, str]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a source of rows."""
    folder = tmp_path_factory.mktemp("pay")
    rows = "".join(f"{i},{'de' if i % 3 else 'fr'},0\n" for i in range(30)) + "1100,xx,1\n1200,xx,1\n"
    (folder / "rows.csv").write_text("amount,country,label\n" + rows)
    context = AppContext(make_settings(folder / "home", model="none"))
    learn(context, [folder / "rows.csv"], "pay", ReadOptions(label="label"), brief="payments", budget=0)
    context.close()
    return folder / "home"


@pytest.fixture
def judge(run: Run, learned: Path, tmp_path: Path) -> Callable[..., Judged]:
    """`precedent judge` of the rows in a copy of the data directory."""
    shutil.copytree(learned, tmp_path / "home", ignore=shutil.ignore_patterns("*.lock"))
    (tmp_path / "in.csv").write_text(ROWS)

    def judged(*options: str) -> Judged:
        result = run("judge", "in.csv", "--source", "pay", "--to", "jsonl", *options)
        return result.code, ELAPSED.sub("", result.out), result.err

    return judged


@pytest.fixture(params=[None, "sesame"])
def server(
    judge: Callable[..., Judged], tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param:
        monkeypatch.setenv("PRECEDENT_API_KEY", request.param)
    chosen = make_settings(tmp_path / "home", model="none", api_key=request.param, log_level="error")
    with running(chosen) as url:
        assert eventually(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        with announced(chosen, "0.0.0.0", int(url.rpartition(":")[2])):
            yield url


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many records each request to a server had."""
    requests, send = list[int](), ServerJudge._answers

    def counted(self: ServerJudge, client: httpx.Client, inputs: Sequence[JudgeRequest]) -> Iterator[object]:
        requests.append(len(inputs))
        return send(self, client, inputs)

    monkeypatch.setattr(ServerJudge, "_answers", counted)
    return requests


def test_the_same_is_written(server: str, judge: Callable[..., Judged], asked: list[int]) -> None:
    for to in ("jsonl", "csv", "table"):
        local = judge("--to", to)
        assert judge("--to", to, "--via-server", server) == local
        code, out, err = judge("--to", to, "--via-server", "auto")
        said, _, rest = err.partition("\n")
        assert (code, out, rest) == local
        assert said.startswith("records are judged by the server http://")
    assert len(asked) == 6
    # by default, and with what changes how a process judges, it judges itself
    del asked[:]
    for options in (["--via-server", "never"], [], ["--via-server", "auto", "--model", "none"]):
        judge(*options)
    assert asked == []
    code, _, err = judge("--via-server", server, "--detail", "compact")
    assert (code, "not with --detail compact" in err) == (2, True)


@pytest.mark.parametrize("server", [None], indirect=True)
def test_a_server_that_ends_midway(server: str, judge: Callable[..., Judged], monkeypatch: pytest.MonkeyPatch) -> None:
    local, answers = judge(), ServerJudge._answers

    def ends(self: ServerJudge, client: httpx.Client, inputs: Sequence[JudgeRequest]) -> Iterator[object]:
        yield next(answers(self, client, inputs))
        raise httpx.ReadError("connection reset")

    monkeypatch.setattr(ServerJudge, "_answers", ends)
    code, out, err = judge("--via-server", "auto")
    assert (code, out) == local[:2]
    assert "has ended: the other records are judged here" in err
    code, out, err = judge("--via-server", server)
    assert code == 3
    assert "has ended, the other records were not judged: connection reset" in err
    assert local[1].startswith(out), "whole lines"


def test_where_none_runs(judge: Callable[..., Judged], tmp_path: Path) -> None:
    local = judge()
    assert judge("--via-server", "auto") == local
    # one that was killed left its note
    (tmp_path / "home" / "server.json").write_text('{"url": "http://127.0.0.1:9"}')
    assert judge("--via-server", "auto") == local
    code, out, err = judge("--via-server", "http://127.0.0.1:9")
    assert (code, out) == (3, "")
    assert "the server http://127.0.0.1:9 cannot judge" in err
    assert judge("--via-server", "yes")[0] == 2


@pytest.mark.parametrize("server", [None], indirect=True)
def test_a_server_with_other_settings_is_left_alone(
    server: str, judge: Callable[..., Judged], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRECEDENT_PRECEDENTS", "2")
    assert "has another version or other settings: records are judged here" in judge("--via-server", "auto")[2]
    assert asked == []


def test_only_an_address_of_this_machine_is_noted(tmp_path: Path) -> None:
    chosen = make_settings(tmp_path)
    with announced(chosen, "192.0.2.7", 8000):
        assert announced_url(tmp_path) is None
    with announced(chosen, "::", 8000):
        assert announced_url(tmp_path) == "http://[::1]:8000"
        with announced(chosen, "localhost", 8001):
            assert announced_url(tmp_path) == "http://127.0.0.1:8001"
        assert announced_url(tmp_path) is None
    for note in ("", "[]", '{"url": "http://evil.example:80"}', '{"url": "http://127.0.0.1.evil.example:80"}'):
        (tmp_path / "server.json").write_text(note)
        assert announced_url(tmp_path) is None
    assert identity(chosen) == identity(make_settings(tmp_path, port=9))
    assert identity(chosen) != identity(make_settings(tmp_path, precedents=9))


@pytest.mark.parametrize("server", [None], indirect=True)
@pytest.mark.parametrize("role", ["read", "judge"])
def test_a_named_key_is_sent_and_one_of_another_role_is_named(
    server: str,
    judge: Callable[..., Judged],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[int],
    role: str,
) -> None:
    always_fresh(monkeypatch)
    local = judge()
    key = Keys(make_settings(tmp_path / "home")).add("ada", role)
    monkeypatch.setenv("PRECEDENT_API_KEY", key)
    code, out, err = judge("--via-server", server)
    assert asked, "the server was asked"
    if role == "judge":
        assert (code, out) == local[:2]
        return
    assert (code, out) == (3, "")
    assert "refused the records: this needs the role judge; the API key 'ada' has the role read" in err
    code, out, err = judge("--via-server", "auto")
    assert (code, out) == local[:2]
    assert "they are judged here: this needs the role judge" in err
