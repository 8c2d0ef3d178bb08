"""A real Chroma server for the tests: `chroma run` on a port and in a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx

from benchmarks.private_ollama import free_port

_START_SECONDS = 60


class PrivateChroma:
    """A server that can be stopped, and started again with what it had or empty."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._port = folder, free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, empty: bool = False) -> None:
        """Start it, and wait until it answers."""
        if empty:
            shutil.rmtree(self.folder, ignore_errors=True)
        options = ["--path", str(self.folder), "--host", "127.0.0.1", "--port", str(self._port)]
        program = Path(sys.executable).with_name("chroma")
        self._process = subprocess.Popen([str(program), "run", *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                httpx.get(f"{self.url}/api/v2/heartbeat").raise_for_status()
            except httpx.HTTPError:
                assert self._process.poll() is None, "chroma run has ended"
                assert time.monotonic() < deadline, "chroma run does not answer"
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None
