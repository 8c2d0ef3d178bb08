"""Where Ollama servers are: what people write, as URLs."""

from __future__ import annotations

import httpx

from llm.errors import ModelFailure

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 11434


def parse_hosts(addresses: str) -> list[str]:
    """The servers' addresses, separated by commas."""
    return [address.strip() for address in addresses.split(",") if address.strip()] or [DEFAULT_HOST]


def base_url(host: str) -> str:
    """What OLLAMA_HOST may hold (`host`, `host:port`, `:port`, `[v6]:port`, a URL) as a URL without a final slash.

    Without a scheme the port defaults to Ollama's; with one, to that scheme's, as Ollama's own client has it. A server
    that listens on all addresses (`0.0.0.0`) is asked on the loopback. Raises ModelFailure for what is no address.
    """
    host = host.strip().rstrip("/")
    bare = "://" not in host
    if bare and host.startswith(":") and not host.startswith("::"):
        host = DEFAULT_HOST + host
    try:
        url = httpx.URL(f"http://{host or DEFAULT_HOST}" if bare else host)
        port = url.port or (DEFAULT_PORT if bare else None)
        url = url.copy_with(port=port, host=DEFAULT_HOST if url.host in ("", "0.0.0.0") else url.host)
    except httpx.InvalidURL as error:
        raise ModelFailure(f"{host!r} is no address of an Ollama server: {error}") from error
    return str(url).rstrip("/")
