"""What a conversation has established: verdicts, the source, a question that waits for an answer, the language.

It is read from the agent's own messages, so that the agent keeps no state. Texts of records are always in the middle of
a line there: a line that begins with one of these marks is the agent's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from agent.chat.shapes import LONGEST_TALK, is_personal, is_question, record_likeness
from agent.core.locale import language_of

_VERDICT = re.compile(r"^(?:\d+\. )?verdict (v[0-9a-f]{12,32})(?: \(source ([\w.-]+)\))?", re.MULTILINE)
_SOURCE = re.compile(r"^(?:records are now judged as source|source:) ([\w.-]+)$", re.MULTILINE)
_PENDING = re.compile(r"^pending: ([vc]\w+) (normal|anomalous|delete)$", re.MULTILINE)
_CHANGED = re.compile(r"^changed: ([vc]\w+)$", re.MULTILINE)
_LANGUAGE = re.compile(r"^language: (en|ko|zh)$", re.MULTILINE)
_UNDONE = re.compile(r"^undone: ([vc]\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Conversation:
    """The messages before the one that is answered."""

    messages: Sequence[BaseMessage]

    @cached_property
    def answers(self) -> list[str]:
        """The agent's messages, the newest first."""
        return [str(message.text) for message in reversed(self.messages) if isinstance(message, AIMessage)]

    @cached_property
    def listed(self) -> list[str]:
        """The verdicts that ordinals mean: those of the newest list, else all single ones in their order."""
        singles = list[str]()
        for answer in self.answers:
            ids = [found[0] for found in _VERDICT.findall(answer)]
            if len(ids) > 1:
                return ids
            singles = [*ids, *(single for single in singles if single not in ids)]
        return singles

    @property
    def last_list(self) -> list[str]:
        """The verdicts of the newest answer that has any."""
        return next((found for answer in self.answers if (found := [ids[0] for ids in _VERDICT.findall(answer)])), [])

    @property
    def source(self) -> str | None:
        """The source that was chosen last, or that the last verdict is of."""
        return self._newest_source[0]

    @property
    def chosen_source(self) -> str | None:
        """The source, if no verdict of another came after it was chosen."""
        source, is_chosen = self._newest_source
        return source if is_chosen else None

    @cached_property
    def _newest_source(self) -> tuple[str | None, bool]:
        chosen_before = None
        for answer in self.answers:
            if chosen := _SOURCE.findall(answer):
                # a verdict of another source came after it
                return (chosen_before or str(chosen[-1])), chosen_before in (None, chosen[-1])
            sources = [found[1] for found in _VERDICT.findall(answer) if found[1]]
            if sources and chosen_before is None:
                chosen_before = str(sources[-1])
        return chosen_before, False

    @property
    def pending(self) -> tuple[str, str] | None:
        """The verdict or case, and the label or ``delete``, that the last message asks to confirm."""
        match = _PENDING.search(self.answers[0]) if self.answers else None
        return (match[1], match[2]) if match else None

    @property
    def to_undo(self) -> str | None:
        """The last change that the conversation made and has not undone."""
        undone = 0
        for answer in self.answers:
            undone += len(_UNDONE.findall(answer))
            for changed in reversed(_CHANGED.findall(answer)):
                if not undone:
                    return str(changed)
                undone -= 1
        return None

    def language(self, message: str, *, is_talk: bool) -> str:
        """The language to answer in.

        Parameters
        ----------
        is_talk : bool
            Whether the message is the user's own words; a record says nothing about the language.
        """
        for answer in self.answers:
            if chosen := _LANGUAGE.findall(answer):
                return str(chosen[-1])
        if language := language_of(message):
            return language
        if is_talk and len(message.split()) > 1:
            return "en"
        for earlier in reversed(self.messages):
            if isinstance(earlier, HumanMessage):
                text = str(earlier.text)[:LONGEST_TALK]
                if language := language_of(text):
                    return language
                if (is_question(text) or is_personal(text)) and not record_likeness(text):
                    break
        return "en"
