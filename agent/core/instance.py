"""Which server of this machine judges as this process would: `serve` notes its address in the data directory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from agent.core.logs import log_event
from agent.core.settings import Settings

_FILE = "server.json"
# verdicts do not depend on them
_OF_THE_PROCESS = {
    *("host", "port", "api_key", "max_body_bytes", "request_timeout", "shutdown_timeout", "otlp_endpoint"),
    *("log_level", "log_format", "queue_size", "waiting_records", "threads", "device", "offline", "cache"),
    *("history_days", "history_rows", "llm_cache_rows", "language_budget"),
}
_LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::1": "[::1]", "::": "[::1]"}


def identity(settings: Settings) -> str:
    """A hash of the version, the data directory and the settings that verdicts depend on."""
    chosen = settings.model_dump(mode="json", exclude=_OF_THE_PROCESS)
    chosen |= {"home": str(settings.home.absolute()), "version": version("precedent-agent")}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


@contextmanager
def announced(settings: Settings, host: str, port: int) -> Iterator[None]:
    """Note the address of a server in the data directory while it runs; only one that this machine itself reaches."""
    address, file = _LOOPBACK.get(host), settings.home / _FILE
    if address is None or not port:
        yield
        return
    note = json.dumps({"url": f"http://{address}:{port}", "pid": os.getpid()})
    part = file.with_name(f"{_FILE}.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.write_text(note, encoding="utf-8")
        part.replace(file)
    except OSError as error:
        # it serves all the same; only commands do not find it
        log_event("the server's address is not noted", "warning", reason=f"{file}: {error.strerror}")
        with suppress(OSError):
            part.unlink(missing_ok=True)
    try:
        yield
    finally:
        # another server may have been started since
        with suppress(OSError):
            if file.read_text(encoding="utf-8") == note:
                file.unlink()


def announced_url(home: Path) -> str | None:
    """The address that a server noted; whether it still runs there is for the caller to find out."""
    try:
        url = json.loads((home / _FILE).read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    is_ours = isinstance(url, str) and any(url.startswith(f"http://{address}:") for address in _LOOPBACK.values())
    return url if is_ours else None
