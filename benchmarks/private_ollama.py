"""A private Ollama server: on a free loopback port, with its own model folder, stopped when it is closed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import ollama

VERSION = "v0.24.0"


def binary() -> str | None:
    """The Ollama to run: OLLAMA_BIN, one on PATH, or the one that `.ci/ollama` built; None if there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    built = cache / "precedent" / "ollama" / VERSION / "ollama"
    return os.environ.get("OLLAMA_BIN") or shutil.which("ollama") or (str(built) if built.is_file() else None)


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class PrivateOllama:
    """A running server; ``variables`` are added to its environment (OLLAMA_NUM_PARALLEL …)."""

    def __init__(self, folder: Path, port: int | None = None, **variables: str) -> None:
        executable = binary()
        if executable is None:
            raise FileNotFoundError("no Ollama: set OLLAMA_BIN, put it on PATH, or run .ci/ollama")
        self.binary, self.folder, self._variables = executable, folder, variables
        self.port = port or free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.log = folder / f"serve-{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of `ollama` commands for this server."""
        private = {"OLLAMA_HOST": self.host, "OLLAMA_MODELS": str(self.folder / "models"), "HOME": str(self.folder)}
        quiet = {"OLLAMA_NO_CLOUD": "1", "OLLAMA_NOHISTORY": "1", "NO_PROXY": "127.0.0.1"}
        return {**os.environ, **private, **quiet, **self._variables}

    @property
    def client(self) -> ollama.Client:
        return ollama.Client(f"http://{self.host}")

    def start(self) -> None:
        """Start or restart the server, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, "serve"], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"http://{self.host}/api/version", timeout=1).is_success:
                    return
            except httpx.HTTPError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError(f"Ollama does not start: {self.log.read_text()[-500:]}") from None
                time.sleep(0.1)

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """An `ollama` command against this server."""
        return subprocess.run(
            [self.binary, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and its runners."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(30)

    def close(self) -> None:
        self.signal(signal.SIGCONT)
        self.kill()

    def __enter__(self) -> PrivateOllama:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
