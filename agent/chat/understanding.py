"""A message to the action that it asks for; what is unclear is asked about, and a question is never judged."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from agent.chat import parsing
from agent.chat.conversation import Conversation
from agent.chat.intents import Intent, IntentClassifier, examples, normalise
from agent.chat.pasted import file_named, is_row, json_value, likeness, split_prefix
from agent.chat.tools import Tools
from agent.core.errors import EXPECTED
from agent.core.records import Label

_VERDICT_ID = re.compile(r"\b(v[0-9a-f]{12,32})\b")
_CASE_ID = re.compile(r"(?<![A-Za-z0-9_])(c\d{1,10})(?![A-Za-z0-9_])")
_USE = re.compile(r"(?:use|switch to|source)\s+([\w.-]+)", re.IGNORECASE)
_MARK = re.compile(r"\b(?:mark|label|set|correct|change|relabel)\b|바꿔|고쳐|표시|라벨|标|改", re.IGNORECASE)
_NORMAL = re.compile(
    r"\b(?:normal|fine|ok(?:ay)?|expected|harmless|planned|benign|false (?:alarm|positive))\b"
    r"|정상|오탐|괜찮|문제\s?없|잘못된 경보|正常|误报|没问题|没事|没有问题",
    re.IGNORECASE,
)
_NOT_NORMAL = re.compile(
    r"(?:\bnot|n't)\s+(?:an?\s+|really\s+|at all\s+)?(?:normal|fine|ok(?:ay)?|expected|harmless)\b|\babnormal"
    r"|비정상|정상이?\s?아|不正常|不是正常|并非正常",
    re.IGNORECASE,
)
_NOT_ANOMALOUS = re.compile(
    r"(?:\bnot|n't|no)\s+(?:an?\s+|really\s+)?(?:anomal\w*|abnormal|problem|error|issue)\b"
    r"|(?:이상|비정상|문제)[이가]?\s?아니|不是异常|没有异常",
    re.IGNORECASE,
)
_ANOMALOUS_WORD = re.compile(r"anomal|abnormal|\bbad\b|비정상|이상|异常|不正常", re.IGNORECASE)
_NORMAL_WORD = re.compile(r"\bnormal\b|(?<!비)정상|(?<!不)正常", re.IGNORECASE)
# probabilities from which an intent is certain, likely, or at all
_SURE, _LIKELY, _MARGIN = 0.6, 0.34, 0.08
# similarity to a case from which a text is taken for a record
_KNOWN = 0.8
_CHANGING = frozenset({"correct", "ask_case", "undo", "use"})
_ABOUT_A_VERDICT = frozenset({"explain", "precedents", "what_if", "correct", "advice"})


@dataclass(frozen=True)
class Action:
    """A tool's name and its arguments."""

    tool: str
    arguments: dict[str, Any] = field(default_factory=dict)


@cache
def _vocabulary() -> frozenset[str]:
    words = " ".join(text for listed in examples().values() for text in listed).lower()
    return frozenset(re.findall(r"[a-z][\w.-]*", words)) | {"labeled", "related", "concerning", "records", "let", "see"}


class Understanding:
    """Decides by rules and the intents' classifier, never by a text of a record.

    Parameters
    ----------
    tools : Tools
    local_files : bool
        Whether a message may be the path of a file.
    """

    def __init__(self, tools: Tools, *, local_files: bool) -> None:
        self._tools, self._context, self._local_files = tools, tools.context, local_files

    @cached_property
    def _classifier(self) -> IntentClassifier:
        return IntentClassifier(self._context.embedder().encode)

    def action(self, message: str, conversation: Conversation) -> Action:
        """What the message asks for."""
        message = message.strip()
        if not message or message == "?":
            return Action("help")
        is_talk = len(message) <= parsing.LONGEST_TALK
        if is_talk and conversation.pending and (answer := parsing.answer_to_question(message)) is not None:
            target, change = conversation.pending
            return Action("confirm", {"target": target, "change": change}) if answer else Action("decline")
        if is_talk and parsing.answer_to_question(message):
            # a yes to no question labels nothing
            return Action("clarify")
        names = self._context.casebook.names()
        source, text = split_prefix(message, names)
        if source:
            return Action("judge", {"text": text, "source": source})
        if self._local_files and (path := file_named(message)):
            return Action("judge_file", {"path": path})
        if not is_talk or "\n" in message or json_value(message) is not None:
            return self._payload(message) or Action("judge", {"text": message})
        if (use := _USE.fullmatch(message)) and (
            use[1].lower() in {name.lower() for name in names} or use[1].islower()
        ):
            return Action("use", {"name": use[1]})
        return self._of_line(message, conversation, names)

    def _of_line(self, message: str, conversation: Conversation, names: list[str]) -> Action:
        fields = self._fields(conversation)
        intent = self._intent(message, names, fields)
        question = parsing.is_question(message)
        marks = parsing.record_likeness(_VERDICT_ID.sub("", message))
        likely = intent.name not in ("record", "judge", "chat") and intent.probability >= _LIKELY
        talk = likely and (question or (marks == 0 and intent.probability >= _SURE))
        if (payload := self._payload(message)) and not (talk and marks == 0):
            return payload
        if parsing.begins_like_record(message) or (marks >= 2 and not (talk and question)):
            return Action("judge", {"text": message})
        if _VERDICT_ID.search(message) and likely:
            return self._talk(message, intent, conversation, fields, names)
        if self._is_known(message, conversation, always=not talk):
            return Action("judge", {"text": message})
        own_words = question or parsing.is_personal(message)
        is_record = intent.name == "record" and intent.probability >= _LIKELY
        if not own_words and not talk and (is_record or (marks and (not likely or intent.probability < _SURE))):
            return Action("judge", {"text": message})
        action = self._talk(message, intent, conversation, fields, names)
        # what looks a little like a record changes nothing
        return Action("clarify") if marks and action.tool in _CHANGING else action

    def _intent(self, message: str, names: list[str], fields: list[str]) -> Intent:
        """The intent; words to search for make a request for cases look like a record."""
        intent = self._classifier.classify(normalise(message, names, fields))
        if intent.probability < _SURE or intent.name == "record":
            text = message
            for word in parsing.leftover_words(message, _vocabulary()):
                text = text.replace(word, "") if word not in names and word not in fields else text
            bare = self._classifier.classify(normalise(text, names, fields))
            if bare.name == "cases" and bare.probability >= _LIKELY:
                return bare
        return intent

    def _payload(self, message: str) -> Action | None:
        """``could you check this: RECORD``: the record, where what comes before it is such a request."""
        for lead, rest in parsing.with_payload(message):
            if len(lead) > parsing.LONGEST_TALK or parsing.record_likeness(lead.rstrip(":\uff1a")) > 0 or not rest:
                continue
            intent = self._classifier.classify(normalise(lead))
            likely = intent.name in ("judge", "chat", "correct_normal") and intent.probability >= _LIKELY
            is_long = len(rest) > parsing.LONGEST_TALK
            if likely and (is_long or parsing.record_likeness(rest) >= 1 or self._is_known(rest, None, always=True)):
                return Action("judge", {"text": rest})
        return None

    def _is_known(self, text: str, conversation: Conversation | None, *, always: bool) -> bool:
        """Whether a text is a row, or much like a case, of the source in use or of any."""
        chosen = conversation.chosen_source if conversation else None
        if len(text) > self._context.settings.max_record_chars:
            return True
        for name in [chosen] if chosen else self._context.casebook.names():
            try:
                if is_row(text, self._context, name):
                    return True
                if likeness(text, self._context, name) >= (_KNOWN if always else 1.0):
                    return True
            except EXPECTED:
                # a source that cannot be searched is named when the record is judged
                continue
        return False

    def _fields(self, conversation: Conversation) -> list[str]:
        """The names of the fields that the conversation may be about."""
        fields = list(self._tools.fields(conversation.source))
        if ids := conversation.last_list:
            try:
                fields += [name for name in self._tools.verdict(ids[-1]).record.fields if name not in fields]
            except EXPECTED:
                return fields
        return fields

    def _talk(
        self, message: str, intent: Intent, conversation: Conversation, fields: list[str], names: list[str]
    ) -> Action:
        """The action of the user's own words."""
        name, question = intent.name, parsing.is_question(message)
        sure = intent.probability >= _LIKELY and intent.margin >= _MARGIN
        named = next((known for known in names if re.search(rf"(?<![\w-]){re.escape(known)}(?![\w-])", message)), None)
        named = named or next((known for known in names if known.lower() in message.lower()), None)
        number = parsing.ordinal(message)
        case_id = _CASE_ID.search(message)
        verdict_id = _VERDICT_ID.search(message)
        values = parsing.changes(message, fields)
        if values and (name == "what_if" or question or not sure):
            return self._about("what_if", message, conversation, number, values=values)
        if parsing.WORST.search(message.lower()) or (
            parsing.COUNTING.search(message.lower()) and name not in ("sources", "cases", "trend", "help")
        ):
            return self._history(message, conversation, named)
        labelled = any(pattern.search(message) for pattern in (_NORMAL, _NOT_NORMAL, _NOT_ANOMALOUS, _ANOMALOUS_WORD))
        if name in ("judge", "chat") and labelled and not question and conversation.last_list:
            name = "correct_normal"
        if question and labelled and conversation.last_list and (not sure or name == "chat"):
            name, sure = "explain", True
        if name.startswith("correct_") and (sure or labelled):
            if question and not _MARK.search(message):
                name, sure = "explain", True
            elif case_id and not verdict_id:
                return Action("ask_case", {"case_id": case_id[1], "change": self._label(message, name)})
            else:
                return self._about("correct", message, conversation, number, label=self._label(message, name))
        if case_id and not verdict_id and name not in ("delete_case", "undo"):
            return Action("case", {"case_id": case_id[1]})
        if name == "delete_case":
            if case_id:
                return Action("ask_case", {"case_id": case_id[1], "change": "delete"})
            return Action("clarify", {"about": "case"})
        if (number or verdict_id) and (not sure or name in ("chat", "judge", "record", "history")):
            name, sure = "explain", True
        if not sure:
            return Action("clarify")
        return self._of_intent(name, message, conversation, number, named)

    def _of_intent(
        self, name: str, message: str, conversation: Conversation, number: int | None, named: str | None
    ) -> Action:
        if name in ("greet", "help", "sources"):
            return Action(name)
        if name == "use":
            return Action("use", {"name": named}) if named else Action("clarify", {"about": "source"})
        if name == "undo":
            target = _VERDICT_ID.search(message) or _CASE_ID.search(message)
            return Action("undo", {"target": target[1] if target else conversation.to_undo})
        if name == "history":
            return self._history(message, conversation, named)
        if name == "trend":
            return Action("trend", {"source": named or conversation.source})
        if name == "cases":
            label: Label | None = "anomalous" if _ANOMALOUS_WORD.search(message) else None
            label = label or ("normal" if _NORMAL_WORD.search(message) else None)
            spoken = message.replace(named, " ") if named else message
            words = " ".join(parsing.leftover_words(spoken, _vocabulary()))
            source = named or conversation.source
            return Action("cases", {"source": source, "label": label, "words": words, "top": parsing.how_many(message)})
        if name in _ABOUT_A_VERDICT:
            # what would make it normal is one of the facts
            return self._about("explain" if name == "what_if" else name, message, conversation, number)
        if name == "judge" and conversation.last_list:
            return self._about("explain", message, conversation, number)
        return Action("clarify")

    def _history(self, message: str, conversation: Conversation, named: str | None) -> Action:
        from datetime import datetime

        since = parsing.since(message, datetime.now().astimezone())
        listed = conversation.listed
        counting = bool(parsing.COUNTING.search(message.lower()))
        wanted = {"since": since, "top": parsing.how_many(message), "worst": not counting}
        if since is None and not named and len(listed) > 1 and (counting or parsing.WORST.search(message.lower())):
            return Action("listed", {**wanted, "verdict_ids": listed})
        return Action("history", {**wanted, "source": named or conversation.source})

    def _about(
        self, tool: str, message: str, conversation: Conversation, number: int | None, **arguments: Any
    ) -> Action:
        """An action on the verdict that a message means: by its id, by an ordinal, or the last one."""
        ids = conversation.listed if number else conversation.last_list
        if match := _VERDICT_ID.search(message):
            chosen = match[1]
        elif not ids:
            return Action("clarify", {"about": "verdict"})
        elif number and not (number == -1 or 1 <= number <= len(ids)):
            return Action("clarify", {"about": "ordinal", "listed": len(ids)})
        else:
            chosen = ids[-1] if number in (None, -1) else ids[number - 1]
        return Action(tool, {"verdict_id": chosen, **arguments})

    @staticmethod
    def _label(message: str, name: str) -> Label:
        """The label that a statement gives; where its words do not show it, by its intent."""
        if _NOT_NORMAL.search(message) and not _NOT_ANOMALOUS.search(message):
            return "anomalous"
        if _NOT_ANOMALOUS.search(message) or _NORMAL.search(message):
            return "normal"
        return "normal" if name == "correct_normal" else "anomalous"
