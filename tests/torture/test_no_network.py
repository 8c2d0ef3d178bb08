"""Nothing connects beyond this machine: commands and a server in a namespace of the loopback alone, under strace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import POSTGRES, missing
from tests.served import ENTRY, ROOT
from tests.torture.conftest import Figures

_LOOPBACK = "ip link set lo up"
PRECEDENT = [sys.executable, "-c", ENTRY]
_TO = re.compile(r'(?:connect|sendto|sendmsg)\(.*?sin6?_port=htons\((\d+)\).*?"([0-9a-fA-F.:]+)"')


def beyond(trace: Path) -> list[str]:
    """Calls that address another machine."""
    return [
        line.strip()
        for file in trace.parent.glob(trace.name + "*")
        for line in file.read_text(errors="replace").splitlines()
        if (found := _TO.search(line)) and not (found[2].startswith("127.") or found[2] in ("::1", "::ffff:127.0.0.1"))
    ]


@pytest.fixture(scope="module")
def traced() -> list[str]:
    """What runs a command in a namespace of its own, with the loopback up, each call that sends noted."""
    trial = ["unshare", "-rnp", "--fork", "sh", "-c", f"{_LOOPBACK} && strace -o {os.devnull} true"]
    if not shutil.which("unshare") or subprocess.run(trial, capture_output=True).returncode:
        missing("strace", "strace, ip and namespaces are needed")
    return [
        "unshare",
        "-rn",
        "sh",
        "-c",
        f'{_LOOPBACK}; exec "$@"',
        "sh",
        "strace",
        "-f",
        "-ff",
        "-qq",
        "-e",
        "trace=connect,sendto,sendmsg",
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.mark.timeout(14_400)
def test_no_command_connects_beyond_this_machine(
    traced: list[str], home: Path, tmp_path: Path, is_long: bool, seconds: float, figures: Figures
) -> None:
    learned, judged = POSTGRES / "learn.log", POSTGRES / "judge.log"
    commands = [
        ["learn", learned, "--source", "pg", "--label", "0", "--brief", "PostgreSQL"],
        ["judge", judged, "--source", "pg", "--output", tmp_path / "o.jsonl"],
        ["judge", judged, "--source", "pg", "--detail", "compact", "--output", tmp_path / "c.csv"],
        ["evaluate", learned, "--source", "pg", "--label", "0"],
        ["doctor"],
        ["sources", "show", "pg"],
        ["sources", "refit", "pg"],
        ["sources", "rebuild", "pg"],
        ["review", "--source", "pg"],
        ["cases", "list", "--source", "pg"],
        ["datasets", "list"],
        ["detectors", "list"],
        ["tune", "--help"],
        ["watch", "--help"],
    ]
    if not is_long:
        commands = commands[:3]
    model = "embedded:qwen2.5-coder-0.5b" if is_long else "none"
    environment = {
        **os.environ, "PRECEDENT_HOME": str(home), "PRECEDENT_MODEL": model, "PRECEDENT_OFFLINE": "0",
    }  # fmt: skip
    environment.pop("PYTEST_CURRENT_TEST", None)
    for number, arguments in enumerate(commands):
        trace = tmp_path / f"trace{number}"
        command = [*traced, "-o", trace, *PRECEDENT, *arguments]
        done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (arguments, done.stderr[-2_000:])
        assert list(tmp_path.glob(f"trace{number}*")), "nothing was traced"
        assert beyond(trace) == [], arguments
    served = _serve(traced, home, tmp_path, environment, seconds)
    figures("network", commands=len(commands), seconds_of_serving=served, connections_beyond_this_machine=0)


def _serve(traced: list[str], home: Path, folder: Path, environment: dict[str, str], seconds: float) -> int:
    """A server in the namespace that is asked from within it; how long it served."""
    trace = folder / "server"
    ask = (
        "import httpx, os, sys, time\n"
        "until = time.monotonic() + 120\n"
        "while True:\n"
        "    try:\n"
        "        if httpx.get('http://127.0.0.1:8765/readyz').status_code == 200: break\n"
        "    except httpx.HTTPError: pass\n"
        "    assert time.monotonic() < until; time.sleep(.2)\n"
        f"until, n = time.monotonic() + {seconds}, 0\n"
        "while time.monotonic() < until:\n"
        "    for path in ('/', '/chain/playground/', '/docs', '/metrics', '/v1/sources', '/openapi.json'):\n"
        "        httpx.get('http://127.0.0.1:8765' + path, follow_redirects=True, timeout=60).raise_for_status()\n"
        "    body = {'text': f'LOG:  checkpoint {n} starting: time', 'source': 'pg'}\n"
        "    httpx.post('http://127.0.0.1:8765/verdict/invoke', json={'input': body}, timeout=600).raise_for_status()\n"
        "    n += 1; time.sleep(.2)\n"
        "print(n)\n"
    )
    server = [*traced[traced.index("strace") :], "-o", str(trace), *PRECEDENT, "serve", "--port", "8765"]
    # all in the namespace ends with its first process
    command = ["unshare", "-rnp", "--fork", "sh", "-c", f'{_LOOPBACK}; "$@" & "$ASKER" -c "$ASK"', "sh", *server]
    started = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**environment, "ASK": ask, "ASKER": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    assert beyond(trace) == []
    return int(time.monotonic() - started)
