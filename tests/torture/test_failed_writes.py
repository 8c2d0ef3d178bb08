"""The n-th write of a command fails: nothing acknowledged is lost, it says what happened, and the next start goes on.

What fails is a write, a sync, a cut, a rename or the creation of a file below the command's folders, once by an error
of input or output, once for want of room, and once for want of room from then on. A few n by default, many by
`make torture`.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from benchmarks.private_ollama import free_port
from tests.served import HOST, until_ready
from tests.torture.conftest import Figures
from tests.torture.trials import TRIALS, Place, Trial, opened_place

pytestmark = pytest.mark.timeout(3_600)
SOURCE = Path(__file__).with_name("fail_nth_write.c")
IS_LONG = "PRECEDENT_TORTURE" in os.environ
PLACES = 60 if IS_LONG else 1
# how the call fails, and those after it
KINDS = (
    {"FAIL_ERROR": str(errno.EIO)},
    {"FAIL_ERROR": str(errno.ENOSPC)},
    {"FAIL_ERROR": str(errno.ENOSPC), "FAIL_ON": "1"},
)
_FOUND = Counter[str]()
# of each kind of change one, where the time is short
NAMES = list(TRIALS) if IS_LONG else ["learn", "judge a file", "correct", "backup"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("calls are made to fail by a library that a C compiler makes, on Linux")
    made = tmp_path_factory.mktemp("library") / "fail.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, SOURCE, "-ldl"], check=True)
    return made


@pytest.fixture(scope="module")
def places(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Place]]:
    """One, or two for two processors."""
    folder = tmp_path_factory.mktemp("failing")
    with ExitStack() as opened:
        names = ["first", "second"] if IS_LONG else ["first"]
        yield [opened.enter_context(opened_place(folder, name, LD_PRELOAD=str(library))) for name in names]


@pytest.mark.parametrize("name", NAMES)
def test_a_call_fails(name: str, places: list[Place], figures: Figures) -> None:
    trial, place = TRIALS[name], places[0]
    place.begin(trial)
    whole = place.run(*place.filled(trial.command))
    assert whole.code == 0, whole.err
    trial.check(place, whole)
    expected = place.output(), place.verdicts()
    count = min(PLACES, whole.calls)
    # spread over all calls, from the middle of the first part
    calls = [1 + (2 * index + 1) * whole.calls // (2 * count) for index in range(count)]
    failing = [(min(n, whole.calls), KINDS[index % len(KINDS)]) for index, n in enumerate(calls)]

    def in_one_place(number: int) -> int:
        return sum(is_refused(trial, places[number], n, kind, expected) for n, kind in failing[number :: len(places)])

    with ThreadPoolExecutor(len(places)) as threads:
        refused = sum(threads.map(in_one_place, range(min(count, len(places)))))
    _FOUND.update(commands=1, writes=count, of=whole.calls, refused=refused)
    figures("failed", **_FOUND, lost=0, starts_refused=0)


def is_refused(trial: Trial, place: Place, n: int, kind: dict[str, str], expected: tuple[object, object]) -> bool:
    """Run a command whose n-th call fails, check what it leaves, and go on; whether it said that it failed."""
    place.begin(trial)
    failed = place.run(*place.filled(trial.command), FAIL_AT=str(n), **kind)
    said = f"{trial.command}, call {n}, {kind}: {failed.code}\n{failed.err}"
    assert failed.code in (0, 2, 3), said
    assert "Traceback" not in failed.err, said
    assert failed.code == 0 or failed.err.splitlines()[-1].startswith("error: "), said
    trial.check(place, failed)
    if failed.code != 0:
        place.run_again(trial, said)
        assert place.output() == expected[0], said
    assert place.verdicts() == expected[1], said
    return failed.code != 0


@pytest.mark.network
@pytest.mark.enable_socket
def test_a_call_of_a_server_fails(places: list[Place]) -> None:
    """Changes are made, or refused with a sentence; reads go on; what was acknowledged is there after a kill."""
    refused, place = 0, places[0]
    for index in range(PLACES // 6 or 1):
        place.begin(TRIALS["refit"])
        port, acknowledged = free_port(), dict[str, str]()
        running = place.start("serve", "--port", port, FAIL_AT=str(120 + 60 * index), **KINDS[index % len(KINDS)])
        until_ready(f"{HOST}:{port}")
        with httpx.Client(base_url=f"{HOST}:{port}", timeout=60) as client:
            for number in range(12):
                label = ("normal", "anomalous")[number % 2]
                case = {"record": {"text": f"unit {number} failed"}, "label": label}
                answer = client.post("/v1/cases", json={"source": "shop", "cases": [case]})
                assert answer.status_code in (201, 503, 507), answer.text
                if answer.status_code == 201:
                    acknowledged[f"unit {number} failed"] = label
                else:
                    refused += 1
                    assert len(answer.json()["detail"].split()) > 3
                assert client.get("/v1/sources/shop").status_code == 200
                judged = client.post("/v1/verdicts", json={"text": f"unit {number} failed", "source": "shop"})
                assert judged.status_code == 200, judged.text
        os.kill(running.pid, signal.SIGKILL)
        assert "Traceback" not in running.ended().err
        held = place.cases()
        assert all(held[case] == 1 for case in acknowledged.items())
        assert sum(text.startswith("unit ") for text, _ in held) <= 12
        place.verdicts()
    if IS_LONG:
        assert refused
