"""Chat messages -> token ids, in the form that the model's own template gives them.

The template is rendered with sentinels in place of the contents and cut at them. Its own pieces are tokenised with
special tokens, the contents without: a record that contains `<|im_end|>` is the plain text `<|im_end|>`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from llm.errors import ModelFailure
from llm.llamacpp.gguf import Weights

# System texts and forms of conversation are few and come again with each record.
REMEMBERED = 32


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids of a conversation: ``prefix`` ends where the first content after the system message begins."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prefix) + len(self.suffix)


class ChatTemplate:
    """The chat template of one model. Raises ModelFailure for a template that is not jinja."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        # The template comes with the file: sandboxed. It gets no clock (`strftime_now`), as the same record must
        # give the same verdict tomorrow; templates that know it have a fixed date for that case.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        try:
            self._template = environment.from_string(weights.chat_template)
        except TemplateError as error:
            raise ModelFailure(f"the chat template of {weights.path.name} is broken: {error}") from error
        self._system_tokens = lru_cache(REMEMBERED)(self._content)
        self._form = lru_cache(REMEMBERED)(self._render)

    def prompt(self, messages: Sequence[BaseMessage]) -> Prompt:
        """The tokens of ``messages`` with the opening of the model's answer.

        System messages at the start are merged into one. Raises ModelFailure for contents other than text, for
        other roles than system, user and assistant, and when the template refuses the conversation.
        """
        turns = _turns(messages)
        pieces = self._form(tuple(role for role, _ in turns))
        prefix: list[int] = []
        tokens: list[int] = prefix
        suffix: list[int] = []
        for piece in pieces:
            if isinstance(piece, tuple):
                tokens.extend(piece)
                continue
            role, content = turns[piece]
            if piece == 0 and role == "system":
                tokens.extend(self._system_tokens(content))
            else:
                tokens = suffix
                tokens.extend(self._content(content))
        if not suffix:
            # A system message alone: the last token must be decoded anew, as the answer's logits come from it.
            suffix = [prefix.pop()]
        return Prompt(tuple(prefix), tuple(suffix))

    def _content(self, text: str) -> tuple[int, ...]:
        return tuple(self._weights.tokenize(text, special=False))

    def _render(self, roles: tuple[str, ...]) -> tuple[tuple[int, ...] | int, ...]:
        """The template for a conversation of these roles: its own tokens, and the numbers of the turns between."""
        marks = [f"\ue000{secrets.token_hex(8)}\ue001" for _ in roles]
        turns = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        try:
            text = self._template.render(
                messages=turns,
                add_generation_prompt=True,
                bos_token=self._weights.special_text("bos"),
                eos_token=self._weights.special_text("eos"),
            )
        except TemplateError as error:
            name = self._weights.path.name
            raise ModelFailure(f"the chat template of {name} refuses {' '.join(roles)}: {error}") from error
        pieces: list[tuple[int, ...] | int] = []
        for part in re.split(f"({'|'.join(marks)})", text):
            if part in marks:
                pieces.append(marks.index(part))
            elif part:
                pieces.append(tuple(self._weights.tokenize(part, special=True)))
        if set(range(len(roles))) - set(pieces):
            raise ModelFailure(f"the chat template of {self._weights.path.name} drops a message")
        bos, first = self._weights.bos, pieces[0]
        if bos is not None and (isinstance(first, int) or first[0] != bos):
            pieces.insert(0, (bos,))
        return tuple(pieces)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _turns(messages: Sequence[BaseMessage]) -> list[tuple[str, str]]:
    """(role, text) of each message, leading system messages merged."""
    turns: list[tuple[str, str]] = []
    for message in messages:
        role, text = _role(message), _text(message)
        if role == "system" and len(turns) == 1 and turns[0][0] == "system":
            turns[0] = ("system", f"{turns[0][1]}\n\n{text}")
        else:
            turns.append((role, text))
    if not turns:
        raise ModelFailure("a conversation needs at least one message")
    return turns


def _role(message: BaseMessage) -> str:
    for kind, role in ((SystemMessage, "system"), (HumanMessage, "user"), (AIMessage, "assistant")):
        if isinstance(message, kind):
            return role
    raise ModelFailure(f"the embedded engine takes no message of type {message.type!r}")


def _text(message: BaseMessage) -> str:
    content: str | list[Any] = message.content
    if isinstance(content, list):
        for block in content:
            if isinstance(block, dict) and block.get("type") != "text":
                raise ModelFailure(f"the embedded engine reads text only, not {block.get('type')!r}")
    return str(message.text)
