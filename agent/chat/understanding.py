"""A message to the action that it asks for; what is unclear is asked about, and a question is never judged.

A text is judged only if it looks like a record, or is one that a source knows, and is no sentence of a person.
"""

from __future__ import annotations

import json
from functools import cached_property

from agent.chat import parsing, shapes
from agent.chat.action import Action
from agent.chat.conversation import Conversation
from agent.chat.field_values import assignments, changes
from agent.chat.intents import Intent, IntentClassifier, normalise
from agent.chat.pasted import file_named, is_row, json_value, likeness, split_prefix, unknown_prefix
from agent.chat.talk import CASE_ID, VERDICT_ID, Talk
from agent.chat.tools import Tools
from agent.core.errors import EXPECTED
from agent.data.readers.values import typed

# probabilities from which an intent is certain, likely, or at all
_SURE, _LIKELY = 0.6, 0.34
# similarity to a case from which a text is taken for a record
_KNOWN = 0.8
# intents of what may stand before or after a record
_LEADS = frozenset({"judge", "chat", "greet", "explain", "help"})
# intents of questions that may stand there
_REQUESTS = frozenset({"correct_normal", "correct_anomalous", "advice", "precedents"})
_CHANGING = frozenset({"correct", "ask_case", "undo", "use", "confirm"})
# lines of a message that may all be talk, and that may stand before and after records
_TALK_LINES = _MAX_LEADS = 3


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
        if not message or message in ("?", "\uff1f"):
            return Action("help")
        is_talk = len(message) <= shapes.LONGEST_TALK
        names = self._context.casebook.names()
        source, text = split_prefix(message, names)
        if block := shapes.fenced(text):
            text = block
        if source or block:
            return Action("judge", {"text": text, "source": source})
        if is_talk and conversation.pending and (answer := parsing.answer_to_question(message)) is not None:
            target, change = conversation.pending
            return Action("confirm", {"target": target, "change": change}) if answer else Action("decline")
        if is_talk and parsing.answer_to_question(message):
            # a yes to no question labels nothing
            return Action("clarify")
        if is_talk and (unknown := unknown_prefix(message)) and not self._is_known(message, None, exactly=True):
            return Action("clarify", {"about": "unknown_source", "name": unknown})
        if file := self._file(message):
            return file
        if json_value(message) is not None:
            return Action("judge", {"text": message})
        if "\n" in message or not is_talk:
            return self._of_lines(message, conversation, names)
        action = self._of_line(message, conversation, names)
        return self._to_question(message, action, conversation) if conversation.pending else action

    @staticmethod
    def _to_question(message: str, action: Action, conversation: Conversation) -> Action:
        """An action while a question waits: a yes may repeat what it confirms, and what is unclear is asked again."""
        target, change = conversation.pending or ("", "")
        repeated = action.arguments.get("label", action.arguments.get("change"))
        same = repeated == change and target in action.arguments.values()
        if action.tool in ("correct", "ask_case") and same and parsing.begins_with_yes(message):
            return Action("confirm", {"target": target, "change": change})
        return Action("clarify", {"about": "pending"}) if action.tool == "clarify" else action

    def _file(self, message: str) -> Action | None:
        """A message that is the path of a file, or asks to judge one."""
        if self._local_files and (path := file_named(message)):
            return Action("judge_file", {"path": path})
        found = shapes.path_in(message) if len(message) <= shapes.LONGEST_TALK else None
        if not found:
            return None
        name, rest = found
        intent = self._classifier.classify(normalise(rest)) if rest else None
        if intent and intent.name == "how_learn" and intent.probability >= _LIKELY:
            return Action("help", {"topic": "learn"})
        if shapes.record_likeness(rest) or self._is_known(message, None, exactly=True):
            return None
        if rest and not (intent and intent.name in ("judge", "how_file") and intent.probability >= _LIKELY):
            return None
        if not self._local_files:
            return Action("clarify", {"about": "file", "name": name})
        if path := file_named(name):
            return Action("judge_file", {"path": path})
        return Action("clarify", {"about": "no_file", "name": name})

    def _of_lines(self, message: str, conversation: Conversation, names: list[str]) -> Action:
        """Several lines, or a long one: records, maybe with a request before and after them."""
        lines = message.splitlines()
        begin = self._leads(lines, first=True)
        end = len(lines) - self._leads(lines[begin:][::-1], first=False)
        rest = "\n".join(lines[begin:end])
        spoken = [line.strip() for line in lines if line.strip()]
        if rest.strip() and not (len(spoken) <= _TALK_LINES and self._is_all_talk(spoken, names)):
            return Action("judge", {"text": rest})
        action = self._of_line(" ".join(spoken)[: shapes.LONGEST_TALK], conversation, names)
        # several lines are not a clear order
        return Action("clarify") if action.tool in _CHANGING or action.tool == "judge" else action

    def _leads(self, lines: list[str], *, first: bool) -> int:
        """How many of the first lines are empty, or requests around records, of which a few are looked for."""
        found = 0
        for number, line in enumerate(lines):
            if line.strip():
                found += 1
                if found > _MAX_LEADS or not self._is_lead(line, first=first):
                    return number
        return len(lines)

    def _is_lead(self, line: str, *, first: bool) -> bool:
        """Whether a line of a message is a request around its records."""
        line = line.strip()
        if len(line) > shapes.LONGEST_TALK or shapes.begins_like_record(line) or line[:1] in " \t{[":
            return False
        bare = line.rstrip(":\uff1a ")
        if shapes.record_likeness(bare) >= 2 or (shapes.record_likeness(bare) and not shapes.is_question(line)):
            return False
        if self._is_known(line, None, exactly=True):
            return False
        intent = self._classifier.classify(normalise(bare))
        lead = intent.name in _LEADS and intent.probability >= _LIKELY
        colon = first and bare != line and intent.name != "record"
        return lead or colon or (shapes.is_question(line) and intent.name != "record")

    def _is_all_talk(self, lines: list[str], names: list[str]) -> bool:
        """Whether no line is a record's, and one of them is a sentence of a person."""
        if any(shapes.record_likeness(line) for line in lines):
            return False
        intents = [self._classifier.classify(normalise(line, names)) for line in lines]
        if any(intent.name == "record" or intent.probability < _LIKELY for intent in intents):
            return False
        return any(shapes.is_question(line) or shapes.is_personal(line) for line in lines)

    def _of_line(self, message: str, conversation: Conversation, names: list[str]) -> Action:
        if row := self._row(message, names):
            return row
        fields = self._fields(conversation)
        prior = self._prior(conversation, fields)
        intent = self._classifier.classify(normalise(message, names, fields), prior)
        question = shapes.is_question(message)
        marks = self._marks(message, fields)
        likely = intent.name not in ("record", "judge", "chat") and intent.probability >= _LIKELY
        talk = likely and (question or (marks == 0 and intent.probability >= _SURE))
        if (not talk or marks or intent.name in _LEADS) and (payload := self._payload(message, marks)):
            return payload
        talking = Talk(self._tools, conversation, intent, fields, names)
        if question and not shapes.begins_like_record(message):
            action = talking.action(message)
        elif (
            shapes.begins_like_record(message)
            or marks >= 2
            or self._is_known(message, conversation, exactly=talk)
            or self._is_no_sentence(message, intent, marks, talk=talk)
        ):
            return Action("judge", {"text": message})
        else:
            action = talking.action(message)
        # what looks a little like a record changes nothing
        return Action("clarify") if marks and action.tool in _CHANGING else action

    def _row(self, message: str, names: list[str]) -> Action | None:
        """A record of a table, as ``name=value`` for each of its columns, maybe with a request to judge it."""
        for name in names:
            columns = self._tools.fields(name)
            if len(columns) > 1 and (found := assignments(message, columns)):
                values, rest = found
                if not rest or self._request(rest):
                    fields = {column: typed(value) for column, value in values.items()}
                    return Action("judge", {"text": json.dumps(fields, ensure_ascii=False), "source": name})
        return None

    @staticmethod
    def _is_no_sentence(message: str, intent: Intent, marks: int, *, talk: bool) -> bool:
        """Whether a text is a record although nothing known is like it: it is no sentence of a person."""
        if talk or shapes.is_personal(message) or VERDICT_ID.search(message):
            return False
        is_record = intent.name == "record" and intent.probability >= _LIKELY
        return is_record or (bool(marks) and intent.name != "chat" and intent.probability < _SURE)

    @staticmethod
    def _marks(message: str, fields: list[str]) -> int:
        """Marks of a record, without the ids and the values of fields that a request may name."""
        text = CASE_ID.sub("", VERDICT_ID.sub("", message))
        for name, value in changes(message, fields).items():
            text = text.replace(value, "").replace(name, "")
        return shapes.record_likeness(text.replace("=", " ") if text.count("=") > message.count("=") else text)

    @staticmethod
    def _prior(conversation: Conversation, fields: list[str]) -> dict[str, float]:
        """How likely intents are where the conversation stands."""
        prior = dict[str, float]()
        if conversation.pending:
            prior |= {"yes": 3.0, "no": 3.0}
        else:
            prior |= {"no": 0.3, "yes": 0.3, "undo": 2.0 if conversation.to_undo else 0.7}
        if not conversation.last_list:
            prior |= {"correct_normal": 0.5, "correct_anomalous": 0.5, "what_if": 0.5}
        if not fields:
            prior["what_if"] = 0.3
        if len(conversation.last_list) > 1:
            prior["history"] = 1.5
        return prior

    def _payload(self, message: str, marks: int) -> Action | None:
        """``could you check this: RECORD``: the record, where the rest is such a request."""
        for lead, rest in shapes.cuts(message):
            request = self._request(lead) if len(rest.split()) > 1 else None
            if request and self._may_be_record(rest, unknown=request == "judge"):
                return Action("judge", {"text": rest.strip()})
        if marks:
            for lead, rest in shapes.unmarked_cuts(message):
                if self._request(lead) and len(rest.split()) > 1 and self._is_known(rest, None, exactly=True):
                    return Action("judge", {"text": rest})
        return None

    def _may_be_record(self, rest: str, *, unknown: bool) -> bool:
        """Whether a part of a message may be the record that the rest asks to judge, maybe one of an unknown kind."""
        if shapes.record_likeness(rest) or self._is_known(rest, None, exactly=False):
            return True
        if not unknown or len(rest) > shapes.LONGEST_TALK or shapes.is_question(rest):
            return False
        intent = self._classifier.classify(normalise(rest))
        return intent.name == "record" and intent.probability >= _SURE

    def _request(self, lead: str) -> str | None:
        """The intent of a part of a message, if it may ask to judge the rest."""
        lead = lead.strip()
        bare = lead.rstrip(":\uff1a-\u2013\u2014> ")
        if not bare or len(lead) > shapes.LONGEST_TALK or shapes.record_likeness(bare) > 0:
            return None
        intent = self._classifier.classify(normalise(bare))
        asking = _REQUESTS | _LEADS if shapes.is_question(lead) else _LEADS
        return intent.name if intent.name in asking and intent.probability >= _LIKELY else None

    def _is_known(self, text: str, conversation: Conversation | None, *, exactly: bool) -> bool:
        """Whether a text is a row, or much like a case, of the source in use or of any."""
        chosen = conversation.chosen_source if conversation else None
        if len(text) > self._context.settings.max_record_chars:
            return True
        for name in [chosen] if chosen else self._context.casebook.names():
            try:
                if is_row(text, self._context, name):
                    return True
                if likeness(text, self._context, name) >= (1.0 if exactly else _KNOWN):
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
