"""Two real servers on one PostgreSQL and one Chroma server, started by the commands of `docs/deploy/compose.yaml`."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from agent.core.settings import Settings
from benchmarks.private_ollama import free_port
from retrieval.store.copying import copy_source
from retrieval.store.engine import open_store
from tests.private_chroma import PrivateChroma
from tests.private_postgres import PrivatePostgres
from tests.shop import ANOMALOUS, NORMAL

pytestmark = [pytest.mark.network, pytest.mark.enable_socket, pytest.mark.postgres]
ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "deploy" / "compose.yaml").read_text())
CLIENTS = 6


class Node:
    """A server of the Compose file as a process."""

    def __init__(self, service: str, home: Path, addresses: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        defined = COMPOSE["services"][service]
        program, *arguments = [{"0.0.0.0": "127.0.0.1", "8000": str(self.port)}.get(a, a) for a in defined["command"]]
        self._command = [str(Path(sys.executable).with_name(program)), *arguments]
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PRECEDENT_")},
            **{name: addresses.get(name, value) for name, value in defined["environment"].items()},
            "PRECEDENT_HOME": str(home),
            "PRECEDENT_MODEL": "none",
            "PRECEDENT_OFFLINE": "1",
            "PYTHONPATH": str(ROOT),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to start it."""
        self.process = subprocess.Popen(
            self._command, env=self._environment, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def wait(self) -> None:
        """Wait until it can judge."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, "the server has ended"
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError("the server is not ready")

    def stop(self) -> int:
        """Stop it as a supervisor does; returns its exit status."""
        if self.process is None:
            return 0
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture(scope="module")
def nodes(
    copy_of: Callable[..., Settings], postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Node, Node]]:
    folder = tmp_path_factory.mktemp("nodes")
    chroma, url = PrivateChroma(folder / "chroma"), postgres.empty_database()
    chroma.start()
    learned, shared = open_store(copy_of().store_url), open_store(url)
    copy_source(learned, shared, "shop")
    for engine in (learned, shared):
        engine.dispose()
    addresses = {"PRECEDENT_DATABASE_URL": url, "PRECEDENT_CHROMA_URL": chroma.url, "PRECEDENT_API_KEY": "sesame"}
    made = (Node("precedent-a", folder / "a", addresses), Node("precedent-b", folder / "b", addresses))
    try:
        for node in made:
            node.start()
        for node in made:
            node.wait()
        yield made
    finally:
        for node in made:
            node.stop()
        chroma.stop()


def client() -> httpx.Client:
    """Of one connection a request, as a proxy that keeps none."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(headers={"authorization": "Bearer sesame"}, timeout=60, limits=limits)


def nearest_label(http: httpx.Client, node: Node) -> str:
    return str(http.post(f"{node.url}/v1/verdicts", json={"text": NORMAL}).json()["precedents"][0]["label"])


def test_a_correction_through_one_is_followed_by_the_other(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    with client() as http:
        verdicts = [http.post(f"{node.url}/v1/verdicts", json={"text": NORMAL}).json() for node in nodes]
        assert verdicts[0]["label"] == verdicts[1]["label"] == "normal"
        assert verdicts[0]["id"] == verdicts[1]["id"]
        correction = {"label": "anomalous"}
        http.post(f"{first.url}/v1/verdicts/{verdicts[1]['id']}/feedback", json=correction).raise_for_status()
        corrected = time.monotonic()
        while (
            http.post(f"{second.url}/v1/verdicts", json={"text": NORMAL}).json()["precedents"][0]["label"] == "normal"
        ):
            assert time.monotonic() - corrected < 2
        for node in nodes:
            answer = http.post(f"{node.url}/v1/verdicts", json={"text": NORMAL}).json()
            assert answer["precedents"][0]["label"] == "anomalous"
            assert answer["degraded"] == verdicts[0]["degraded"]


class Load:
    """Clients that send records to both servers in turn, and to the other if one refuses the connection."""

    def __init__(self, nodes: tuple[Node, Node]) -> None:
        self._nodes, self._ended = nodes, threading.Event()
        self._numbers = itertools.count()
        self.sent: list[int] = []
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        with client() as http:
            while not self._ended.is_set():
                number = next(self._numbers)
                self.sent.append(number)
                for attempt in itertools.count(number):
                    address = self._nodes[attempt % 2].url
                    try:
                        answer = http.post(f"{address}/v1/verdicts", json={"text": f"{ANOMALOUS} {number}"})
                    except httpx.ConnectError:
                        continue
                    except httpx.HTTPError as error:
                        self.failures.append(f"{number}: {error!r}")
                        break
                    self.answers.append((number, {"status": answer.status_code, **answer.json()}))
                    break

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(60)


def test_a_rolling_restart_under_load_loses_no_answer(nodes: tuple[Node, Node]) -> None:
    load = Load(nodes)
    try:
        for node in nodes:
            time.sleep(0.5)
            assert node.stop() == -signal.SIGTERM
            before = len(load.answers)
            node.start()
            node.wait()
            assert len(load.answers) > before, "the other answers meanwhile"
    finally:
        load.end()
    assert load.failures == []
    assert sorted(number for number, _ in load.answers) == sorted(load.sent), "one answer to each"
    assert {answer["status"] for _, answer in load.answers} == {200}
    assert all(re.search(rf" {number}$", answer["record"]["text"]) for number, answer in load.answers)
    with client() as http:
        for _, answer in load.answers[:: max(1, len(load.answers) // 20)]:
            assert http.get(f"{nodes[0].url}/v1/verdicts/{answer['id']}").json()["label"] == answer["label"]
