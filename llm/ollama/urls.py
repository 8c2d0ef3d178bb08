"""Addresses of Ollama servers as URLs."""

from __future__ import annotations

import httpx

from llm.errors import ModelFailure

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 11434


def parse_hosts(addresses: str) -> list[str]:
    """Split addresses at commas; the default host if there are none."""
    return [address.strip() for address in addresses.split(",") if address.strip()] or [DEFAULT_HOST]


def base_url(host: str) -> str:
    """Return the URL, without a final slash, of what OLLAMA_HOST may hold.

    That is ``host``, ``host:port``, ``:port``, ``[v6]:port`` or a URL. The port defaults to Ollama's without a scheme,
    to the scheme's with one, as in Ollama's own client; ``0.0.0.0`` becomes the loopback address. Raises ModelFailure
    for anything else.
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
        raise ModelFailure(f"{host!r} is not an address of an Ollama server: {error}") from error
    return str(url).rstrip("/")
