"""Chat messages to token ids, by the model's own template.

The template is rendered with placeholders for the contents and split at them. Its own text is tokenized with special
tokens, the contents without: a record that contains `<|im_end|>` is the plain text `<|im_end|>`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from llm.errors import ModelFailure
from llm.llamacpp.gguf import Weights

# There are few system messages, examples and sequences of roles, and they recur with each record.
_CACHED = 128


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids of a conversation: ``prefix`` recurs with each record, ``suffix`` does not."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prefix) + len(self.suffix)


class ChatTemplate:
    """The chat template of one model. Raises ModelFailure for a template that jinja cannot parse."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        # The template is a program that comes with the file, hence the sandbox. It gets no clock (`strftime_now`), as
        # verdicts must not change with the date; templates that use one have a fixed date for that case.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise
        try:
            self._template = environment.from_string(weights.chat_template)
        except Exception as error:  # one that is nested too deeply is no TemplateError
            raise ModelFailure(f"the chat template of {weights.path.name} is broken: {error}") from error
        self._recurring_tokens = lru_cache(_CACHED)(self._content)
        self._pieces = lru_cache(_CACHED)(self._render)

    def prompt(self, messages: Sequence[BaseMessage], few_shot: bool = False) -> Prompt:
        """Return the tokens of a conversation up to the beginning of the model's reply.

        Parameters
        ----------
        messages : sequence of BaseMessage
            System messages at the start are merged into one.
        few_shot : bool
            The turns before the last message are examples, which recur as the system message does.

        Returns
        -------
        Prompt
            Its suffix has one token at least, as the reply's logits come from the last token that is decoded.

        Raises
        ------
        ModelFailure
            A content is not text, a role is not system, user or assistant, or the template rejects the conversation.
        """
        turns = _turns(messages)
        recurring = len(turns) - 1 if few_shot else int(turns[0][0] == "system")
        prefix: list[int] = []
        suffix: list[int] = []
        tokens = prefix
        for piece in self._pieces(tuple(role for role, _ in turns)):
            if isinstance(piece, tuple):
                tokens.extend(piece)
                continue
            content = turns[piece][1]
            if piece < recurring:
                tokens.extend(self._recurring_tokens(content))
            else:
                tokens = suffix
                tokens.extend(self._content(content))
        if not suffix:
            suffix = [prefix.pop()]
        return Prompt(tuple(prefix), tuple(suffix))

    def _content(self, text: str) -> tuple[int, ...]:
        return tuple(self._weights.tokenize(text, special=False))

    def _render(self, roles: tuple[str, ...]) -> tuple[tuple[int, ...] | int, ...]:
        """The template for a sequence of roles: its own tokens, and the index of a turn in place of its content."""
        name = self._weights.path.name
        marks = [f"\ue000{secrets.token_hex(8)}\ue001" for _ in roles]
        try:
            text = self._template.render(
                messages=[{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)],
                add_generation_prompt=True,
                bos_token=self._weights.special_text("bos"),
                eos_token=self._weights.special_text("eos"),
            )
        except Exception as error:  # a template can raise anything
            raise ModelFailure(f"the chat template of {name} rejects {' '.join(roles)}: {error}") from error
        pieces: list[tuple[int, ...] | int] = []
        for part in re.split(f"({'|'.join(marks)})", text):
            if part in marks:
                pieces.append(marks.index(part))
            elif part:
                pieces.append(tuple(self._weights.tokenize(part, special=True)))
        if set(range(len(roles))) - set(pieces):
            raise ModelFailure(f"the chat template of {name} drops a message")
        bos, first = self._weights.bos, pieces[0]
        if bos is not None and (isinstance(first, int) or first[0] != bos):
            pieces.insert(0, (bos,))
        return tuple(pieces)


def _raise(message: str) -> NoReturn:
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
    raise ModelFailure(f"the embedded engine does not support messages of type {message.type!r}")


def _text(message: BaseMessage) -> str:
    blocks = message.content if isinstance(message.content, list) else []
    for block in blocks:
        if isinstance(block, dict) and block.get("type") != "text":
            raise ModelFailure(f"the embedded engine supports text only, not {block.get('type')!r}")
    return str(message.text)
