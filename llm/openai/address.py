"""`openai:NAME@URL`: a model on a server with OpenAI's interface."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

PREFIX = "openai:"
# the name may have an @ where the URL has a scheme
_SPEC = re.compile(
    rf"{PREFIX}(?:(?P<name>.+?)@(?P<url>https?://.*)|(?P<bare_name>[^@]+)@(?P<host>[^@/]*(?:/(?!/).*)?))", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model's name on a server, and the base of the server's URLs, without a final slash."""

    name: str
    url: str

    @property
    def spec(self) -> str:
        """The model in a verdict's provenance, which ``--model`` takes."""
        return f"{PREFIX}{self.name}@{self.url}"


def parse_spec(spec: str) -> ServedModel:
    """Return what ``openai:NAME@URL`` names; ``http://`` and ``/v1`` are added to a URL that has no scheme or no path.

    Raises
    ------
    ValueError
        It is not of that form, or has a user, a password, a query or a fragment: they would be shown with verdicts.
    """
    match = _SPEC.fullmatch(spec.strip())
    if match is None:
        raise ValueError("a model on a server is openai:NAME@URL, such as openai:qwen3@http://127.0.0.1:8000/v1")
    name, url = match["name"] or match["bare_name"], match["url"] or f"http://{match['host']}"
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "the URL of openai:NAME@URL has no user, password or query; set PRECEDENT_OPENAI_API_KEY to the key"
        )
    try:
        usable = bool(parts.hostname) and parts.port != 0 and url.isprintable() and not {" ", "\\"} & set(url)
    except ValueError:
        usable = False
    if not usable or not name.strip() or not name.isprintable():
        raise ValueError("openai:NAME@URL needs a name and the URL of a server, such as http://127.0.0.1:8000/v1")
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return ServedModel(name.strip(), f"{parts.scheme}://{parts.netloc}{path}")
