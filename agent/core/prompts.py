"""Prompt texts: templates in `prompts/`, rendered strictly; every verdict names their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_SUFFIX = ".j2"


@cache
def _texts() -> dict[str, str]:
    folder = files("prompts")
    return {
        entry.name.removesuffix(_SUFFIX): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda file: file.name)
        if entry.name.endswith(_SUFFIX)
    }


@cache
def _environment() -> Environment:
    # imported late: verdicts of known templates render no prompt
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    # plain text for a model, not HTML; `prompt_injection` and the tokeniser keep records from changing the prompt
    return Environment(
        loader=FunctionLoader(_texts().get), undefined=StrictUndefined, keep_trailing_newline=False, autoescape=False
    )


def render(name: str, **values: Any) -> str:
    """Render the prompt ``prompts/NAME.j2``.

    Raises
    ------
    jinja2.TemplateNotFound
        There is no such file.
    jinja2.UndefinedError
        A value is missing.
    """
    return _environment().get_template(name).render(**values).strip()


@cache
def prompt_sha256() -> str:
    """SHA-256 (hex) over all prompt files, by name, but those of the chat, which no verdict depends on."""
    digest = hashlib.sha256()
    for name, text in _texts().items():
        if name.startswith("chat_"):
            continue
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class PromptVariant:
    """How a language model is asked about records.

    Attributes
    ----------
    wording : str
        A key of `agent.detectors.language.WORDINGS`.
    reference : float or None
        What is subtracted from the model's log-odds: those for an empty record, or, with ``templates``, the centre of
        a batch of records; None where neither was queried.
    examples : int
        How many of the nearest cases are in the prompt.
    balanced : bool
        Whether half of the examples are of each label.
    templates : int
        How many templates the batch had.
    typical : tuple of str
        The most frequent templates of the batch, which the prompt shows.
    """

    wording: str = "belongs"
    reference: float | None = None
    examples: int = 0
    balanced: bool = False
    templates: int = 0
    typical: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PromptVariant:
        """The variant of plain values; in models of earlier versions ``examples`` is a boolean."""
        examples = data["examples"]
        earlier = {"examples": 4, "balanced": True} if examples is True else {"examples": int(examples)}
        return cls(**{**data, **earlier, "typical": tuple(data.get("typical", ()))})
