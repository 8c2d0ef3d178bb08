"""The chat agent behind `/chain` and `precedent chat`.

Commands are recognised by rules, not by a model, so that a pasted record cannot be one. The language model writes only
explanations, and each of their sentences is checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import BaseModel, Field, ValidationError

from agent.core.cancellable_stream import stream_in_thread
from agent.core.errors import EXPECTED, Busy, UnknownSource, UnknownVerdict, UsageError, describe
from agent.core.records import Label, Verdict
from agent.core.requests import JudgeRequest, format_validation_error, parse_request
from agent.core.terminal import plural
from agent.data.readers.jsonl import flatten
from agent.pipeline.context import AppContext
from agent.pipeline.history import load_verdict
from agent.pipeline.llm_explanation import sentences_for_stored_verdict
from agent.training.feedback import correct, refit_if_due

_MAX_LINES = 50
_VERDICT = re.compile(r"^verdict (v[0-9a-f]{12,32})\b", re.MULTILINE)
_VERDICT_ID = re.compile(r"\b(v[0-9a-f]{12,32})\b")
_SOURCE_SET = re.compile(r"records are now judged as source ([\w.-]+)$")
_QUESTION = re.compile(r"[\w',.?! ]{1,120}")
# a question about a verdict has at least one of these words, and besides them only words of `_OTHER_WORDS`;
# a record that has one of them has other words as well
_WHY = frozenset({"why", "how come", "explain", "explanation", "reason", "reasons"})
_PRECEDENTS = frozenset({"precedent", "precedents", "similar cases", "similar records", "nearest cases"})
_OTHER = """
a about all am an and anomalous anomaly any are but by can cases come could did do does each exactly for give
had has have how i in is it its judge judged last line list look me more nearest normal not now of ok one or
please record records say see show similar so that the their them then these they think this to unsure verdict
was we were what what's which with would you your
"""
_OTHER_WORDS = frozenset(_OTHER.split())
_FEEDBACK = re.compile(
    r"(?:no,? |actually,? |wrong,? )*(?:that|this|it|(?P<id>v[0-9a-f]{12,32}))"
    r"(?:'s| is| was)?,? ?(?:really |actually )?"
    r"(?P<negated>not |n't )?(?:an? )?"
    r"(?P<label>normal|anomal\w*|abnormal|false alarm|false positive|ok(?:ay)?|fine)[.!]*",
    re.IGNORECASE,
)
_USE = re.compile(r"(?:use|switch to|source)\s+(?P<name>[\w.-]+)", re.IGNORECASE)
_SOURCES = re.compile(r"(?:list |show |which |what )?(?:the |my )?sources(?: are there)?\??", re.IGNORECASE)
_HELP = re.compile(r"(?:help|\?|hi|hello|hey|what can (?:you|i) do\??)[.!]*", re.IGNORECASE)
_PREFIX = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)>\s*(?P<rest>.+)$", re.DOTALL)
_NORMAL = ("normal", "false alarm", "false positive", "ok", "okay", "fine")

HELP = """Paste a record (or several, one per line) to get its verdict. Then you can write:
- why?                          show the facts, and an explanation by the language model
- show me the precedents        show the nearest labelled cases
- that was normal               (or: that was anomalous) correct the verdict; similar records follow the correction
- sources                       list the sources
- use NAME                      judge records as that source; or write NAME> before a record
- help                          show this list"""


class ChatInput(BaseModel):
    """The conversation so far; its last message is answered."""

    messages: list[HumanMessage | AIMessage | SystemMessage] = Field(
        ..., json_schema_extra={"widget": {"type": "chat", "input": "messages"}}
    )


def use_source(name: str) -> AIMessage:
    """The message at the beginning of a conversation that makes the agent judge records as that source."""
    return AIMessage(f"records are now judged as source {name}")


def build_chat(context: AppContext, judge: Callable[[JudgeRequest], Verdict]) -> Runnable[ChatInput, str]:
    """Build the agent, which maps a conversation to its answer, streamed in pieces.

    Parameters
    ----------
    context : AppContext
    judge : callable
        Judges a record, and keeps the verdict in the history.

    Returns
    -------
    Runnable
        It keeps no state: everything it needs is in the conversation.
    """
    agent = _Agent(context, judge)

    async def answer_async(conversation: Any) -> AsyncIterator[str]:
        async for piece in stream_in_thread(agent.answer(conversation)):
            yield piece

    runnable = RunnableLambda(agent.answer, afunc=answer_async, name="chat")
    return cast(Runnable[ChatInput, str], runnable.with_types(input_type=ChatInput, output_type=str))


class _Agent:
    def __init__(self, context: AppContext, judge: Callable[[JudgeRequest], Verdict]) -> None:
        self._context, self._judge_record = context, judge

    def answer(self, conversation: Any) -> Iterator[str]:
        """The answer to the last message; expected errors are part of the conversation."""
        answered = False
        try:
            if not isinstance(conversation, ChatInput):
                conversation = ChatInput.model_validate(conversation)
            *history, last = conversation.messages or [HumanMessage("help")]
            for piece in self._answer(str(last.text).strip(), history):
                answered = True
                yield piece
        except Busy as error:
            if not answered:
                # it becomes the status of the response
                raise
            yield describe(error)
        except EXPECTED as error:
            yield describe(error)
        except ValidationError as error:
            yield f"This is not a valid record: {format_validation_error(error)}."

    def _answer(self, message: str, history: Sequence[BaseMessage]) -> Iterator[str]:
        if not message or _HELP.fullmatch(message):
            yield HELP
        elif _SOURCES.fullmatch(message):
            yield from self._sources()
        elif use := _USE.fullmatch(message):
            yield self._use(use["name"])
        elif feedback := _FEEDBACK.fullmatch(message):
            normal = feedback["label"].lower() in _NORMAL
            label: Label = "normal" if normal != bool(feedback["negated"]) else "anomalous"
            yield from self._correct(feedback["id"] or self._last_verdict_id(history, message), label)
        elif _is_question_about(message, _WHY):
            yield from self._why(self._last_verdict_id(history, message))
        elif _is_question_about(message, _PRECEDENTS):
            yield from self._precedents(self._last_verdict_id(history, message))
        else:
            yield from self._judge(message, history)

    def _sources(self) -> Iterator[str]:
        for name in self._context.casebook.names():
            row = self._context.casebook.source(name)
            if row is not None:
                yield f"- {name}: {row.counts['normal']} normal and {row.counts['anomalous']} anomalous cases\n"
        if not self._context.casebook.names():
            yield "There is no source yet. Learning labelled records creates one."

    def _use(self, name: str) -> str:
        if name not in self._context.casebook.names():
            raise UnknownSource(name, self._context.casebook.names())
        return f"records are now judged as source {name}"

    def _last_verdict_id(self, history: Sequence[BaseMessage], message: str) -> str:
        if match := _VERDICT_ID.search(message):
            return match[1]
        for earlier in reversed(history):
            if isinstance(earlier, AIMessage) and (verdict_ids := _VERDICT.findall(str(earlier.text))):
                return str(verdict_ids[-1])
        raise UsageError("There is no verdict yet: paste a record first.")

    def _correct(self, verdict_id: str, label: Label) -> Iterator[str]:
        case = correct(self._context, verdict_id, label)
        yield f"Noted: the record of {verdict_id} is now case {case.case_id}, {label}. Similar records will follow it."
        if changes := refit_if_due(self._context, verdict_id):
            yield f"\nThe source was refitted: {plural(changes, 'change')} of its casebook since the last fit."

    def _why(self, verdict_id: str) -> Iterator[str]:
        verdict = load_verdict(self._context, verdict_id)
        yield " ".join(verdict.explanation.split()) or f"{verdict.label}, probability {verdict.probability:.2f}."
        yield from self._sentences(verdict)

    def _sentences(self, verdict: Verdict) -> Iterator[str]:
        opening = "\n\nIn words:"
        try:
            for sentence in sentences_for_stored_verdict(self._context, verdict):
                yield f"{opening} {sentence}"
                opening = ""
        except EXPECTED as error:
            yield f"\n\n(No explanation by the language model: {describe(error)})"

    def _precedents(self, verdict_id: str) -> Iterator[str]:
        verdict = load_verdict(self._context, verdict_id)
        if not verdict.precedents:
            yield f"Verdict {verdict_id} has no precedents: the casebook of {verdict.source} is empty."
        for case in verdict.precedents:
            text = " ".join(case.text.split())[:200]
            yield f"- {case.case_id} {case.label}, similarity {case.similarity:.2f}: {text}\n"

    def _judge(self, message: str, history: Sequence[BaseMessage]) -> Iterator[str]:
        prefix = _PREFIX.match(message)
        if prefix and prefix["name"] in self._context.casebook.names():
            source, message = prefix["name"], prefix["rest"].strip()
        else:
            source = self._current_source(history)
        requests = _requests(message, source, self._context.settings.max_record_chars)
        if len(requests) == 1:
            verdict = self._judge_record(requests[0])
            # on one line: a record's text must not begin a line, where `_VERDICT` matches
            yield f"verdict {verdict.id} (source {verdict.source}): {' '.join(verdict.explanation.split())}"
            if verdict.degraded:
                yield f"\nDegraded: {'; '.join(verdict.degraded)}"
            if verdict.label != "normal":
                yield from self._sentences(verdict)
            return
        for request in requests:
            verdict = self._judge_record(request)
            text = " ".join(verdict.record.text.split())[:100]
            yield f"verdict {verdict.id} {verdict.label} {verdict.probability:.2f}: {text}\n"

    def _current_source(self, history: Sequence[BaseMessage]) -> str | None:
        for earlier in reversed(history):
            if isinstance(earlier, AIMessage):
                text = str(earlier.text)
                if selected := _SOURCE_SET.match(text):
                    return selected[1]
                if verdict := _VERDICT.match(text):
                    try:
                        return load_verdict(self._context, verdict[1]).source
                    except UnknownVerdict:
                        continue
        names = self._context.casebook.names()
        if len(names) > 1:
            raise UsageError(
                f"Which source is the record from? Write `use NAME` once, or NAME> before it: {', '.join(names)}"
            )
        return None


def _is_question_about(message: str, topics: frozenset[str]) -> bool:
    """Whether the message is a question about one of the topics and nothing else."""
    if not _QUESTION.fullmatch(message):
        return False
    words = [word for word in re.findall(r"[\w']+", message.lower()) if not _VERDICT_ID.fullmatch(word)]
    topic_words = {word for phrase in topics for word in phrase.split()}
    phrases = {*words, *(f"{first} {second}" for first, second in pairwise(words))}
    return bool(phrases & topics) and set(words) <= topic_words | _OTHER_WORDS


def _requests(message: str, source: str | None, max_chars: int) -> list[JudgeRequest]:
    """One request for a JSON object, else one for each line."""
    if (fields := _json_object(message)) is not None:
        return [_request(fields, message, source, max_chars)]
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if len(lines) > _MAX_LINES:
        raise UsageError(
            f"{len(lines)} lines are too many for the chat, which takes {_MAX_LINES}",
            "`precedent judge FILE --source NAME` judges them all",
        )
    return [_request(_json_object(line), line, source, max_chars) for line in lines]


def _json_object(text: str) -> dict[str, Any] | None:
    """The text parsed as a JSON object; None if it is none, or an empty one."""
    if not text.startswith("{"):
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return fields or None


def _request(fields: dict[str, Any] | None, text: str, source: str | None, max_chars: int) -> JudgeRequest:
    if fields is None:
        return parse_request({"source": source, "text": text}, max_chars)
    if set(fields) <= {*JudgeRequest.model_fields, "record"} - {"explain"}:
        return parse_request({"source": source, **fields}, max_chars)
    return parse_request({"source": source, "fields": flatten(fields)}, max_chars)
