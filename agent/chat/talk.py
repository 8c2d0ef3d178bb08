"""The action of a person's own words, by their intent, their words, and where the conversation stands."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from agent.chat import parsing, shapes
from agent.chat.action import Action
from agent.chat.conversation import Conversation
from agent.chat.field_values import changes
from agent.chat.intents import Intent
from agent.chat.search_words import search_words
from agent.chat.tools import Tools
from agent.core.records import Label

VERDICT_ID = re.compile(r"\b(v[0-9a-f]{12,32})\b")
CASE_ID = re.compile(r"(?<![A-Za-z0-9_])(c\d{1,10})(?![A-Za-z0-9_])")
_USE = re.compile(r"(?:use|switch to|source)\s+([\w.-]+)", re.IGNORECASE)
_MARK = re.compile(
    r"\b(?:mark|label|set|correct|change|relabel|treat|learn|remember)\b|바꿔|바꿀|고쳐|표시|라벨|처리|标|改",
    re.IGNORECASE,
)
_CHANGE = re.compile(
    r"\b(?:relabel|change|correct|fix|flip|switch)\b|바꿔|바꾸|바꿀|고쳐|고칠|수정|改|更正|纠正|换成", re.IGNORECASE
)
_NORMAL = re.compile(
    r"\b(?:normal|fine|ok(?:ay)?|expected|harmless|planned|benign|legit\w*|noise|false (?:alarm|positive))\b"
    r"|정상|오탐|오경보|괜찮|문제\s?없|잘못된 (?:경보|알람)|正常|误报|误判|没问题|没事|没有问题",
    re.IGNORECASE,
)
_NOT_NORMAL = re.compile(
    r"(?:\bnot|n't|nt)\s+(?:an?\s+|really\s+|at all\s+)?(?:normal|fine|ok(?:ay)?|expected|harmless)\b|\babnormal"
    r"|false negative|비정상|정상이?\s?아|미탐|不正常|不是正常|并非正常|漏报",
    re.IGNORECASE,
)
_NOT_ANOMALOUS = re.compile(
    r"(?:\bnot|n't|no)\s+(?:an?\s+|really\s+)?(?:anomal\w*|abnormal|problem|error|issue|fault)\b"
    r"|(?:이상|비정상|문제|장애)[이가]?\s?(?:아니|아님|아닌|아닙)|不是异常|没有异常|不算异常|不是故障|不是问题",
    re.IGNORECASE,
)
_ANOMALOUS_WORD = re.compile(r"anomal|abnormal|\bbad\b|비정상|이상|异常|不正常", re.IGNORECASE)
_NORMAL_WORD = re.compile(r"\bnormal\b|(?<!비)정상|(?<!不)正常", re.IGNORECASE)
_LABEL_WORDS: dict[Label, re.Pattern[str]] = {"normal": _NORMAL_WORD, "anomalous": _ANOMALOUS_WORD}
_DELETE = re.compile(
    r"\b(?:delete|remove|erase|drop|discard|purge|get rid of|throw)\b|삭제|지워|지우|지울|제거|없애|删|移除|去掉|剔除",
    re.IGNORECASE,
)
_THANKING = re.compile(
    r"\b(?:thanks|thank (?:you|u)|thx|tysm|ty|ta|cheers)\b|감사|고마|고맙|땡큐|ㄱㅅ|谢", re.IGNORECASE
)
_LANGUAGE_NAMES = {
    "en": re.compile(r"\benglish\b|영어|英[语文]", re.IGNORECASE),
    "ko": re.compile(r"\bkorean\b|\bhangul\b|한국|한글|우리말|韩[语文]|朝鲜语", re.IGNORECASE),
    "zh": re.compile(r"\bchinese\b|\bmandarin\b|중국|中文|汉语|普通话|华语|国语", re.IGNORECASE),
}
_THANKS = re.compile(
    r"\b(?:thank\w*|thx|thnx|ta|ty|tysm|cheers|appreciat\w*|bye\w*|goodbye|cya|night|later|great|good (?:job"
    r"|work|bot)|well done|helpful)\b"
    r"|감사|고마|고맙|땡큐|수고|잘 가|안녕히 (?:계|가)|내일 봐|바이|谢|感谢|辛苦|再见|拜拜|明天见|晚安",
    re.IGNORECASE,
)
_NUMBERS = re.compile(
    r"\bnumbers\b|\bfigures\b|\bscores?\b|\bsignals?\b|\bweigh|수치|점수|숫자|신호|数字|数值|分数|得分|信号|权重",
    re.IGNORECASE,
)
_LIKELY, _MARGIN = 0.3, 0.04
_ABOUT_A_VERDICT = frozenset({"explain", "precedents", "what_if", "correct", "advice"})
_HELP = {"help": "", "how_learn": "learn", "how_file": "file"}


def _last(pattern: re.Pattern[str], text: str) -> int:
    """Where the last match begins; -1 without one."""
    return max((match.start() for match in pattern.finditer(text)), default=-1)


class Talk:
    """Where a conversation stands, and the intent of a message in it.

    Parameters
    ----------
    tools : Tools
    conversation : Conversation
    intent : Intent
    fields, names : list of str
        Names of fields that the conversation may be about, and of sources.
    """

    def __init__(
        self, tools: Tools, conversation: Conversation, intent: Intent, fields: list[str], names: list[str]
    ) -> None:
        self._tools, self._conversation, self._intent = tools, conversation, intent
        self._fields, self._names = fields, names

    def action(self, message: str) -> Action:
        """What the message asks for."""
        name, question = self._intent.name, shapes.is_question(message)
        sure = self._intent.probability >= _LIKELY and self._intent.margin >= _MARGIN
        if (use := _USE.fullmatch(message.strip(" .!"))) and (
            use[1].islower() or use[1].lower() in {known.lower() for known in self._names}
        ):
            return Action("use", {"name": use[1]})
        number, case_id, verdict_id = parsing.ordinal(message), CASE_ID.search(message), VERDICT_ID.search(message)
        values = changes(message, self._fields)
        if values and (name == "what_if" or question or not sure):
            return self._about("what_if", message, number, values=values)
        if parsing.WORST.search(message.lower()) or (
            parsing.COUNTING.search(message.lower()) and name not in ("sources", "cases", "trend", "help", "chat")
        ):
            return self._history(message)
        if (
            case_id
            and not verdict_id
            and name != "undo"
            and (change := self._change_of_case(message, question=question))
        ):
            return Action("ask_case", {"case_id": case_id[1], "change": change})
        if (
            name in ("chat", "explain", "record", "yes")
            and not question
            and _THANKING.search(message)
            and len(message) < 60
        ):
            return Action("greet", {"thanks": True})
        name, sure = self._correction_or_question(message, name, question=question, sure=sure)
        if name.startswith("correct_") and (sure or self._is_labelled(message)):
            if case_id and not verdict_id:
                return Action("ask_case", {"case_id": case_id[1], "change": self._label(message, name)})
            return self._about("correct", message, number, label=self._label(message, name))
        if case_id and not verdict_id and name not in ("delete_case", "undo"):
            return Action("case", {"case_id": case_id[1]})
        if name == "delete_case" and sure:
            if case_id:
                return Action("ask_case", {"case_id": case_id[1], "change": "delete"})
            return Action("clarify", {"about": "case"})
        if (number or verdict_id) and (not sure or name in ("chat", "judge", "record", "history")):
            name, sure = "explain", True
        return self._of_intent(name, message, number) if sure else Action("clarify")

    def _change_of_case(self, message: str, *, question: bool) -> str | None:
        """What is to be done with a case that a message names, which is asked about before it is done."""
        if _DELETE.search(message):
            return "delete"
        if self._is_labelled(message) and (_CHANGE.search(message) or (_MARK.search(message) and not question)):
            # "it is normal, make it anomalous": the label that it shall have is named last
            named = {label: _last(word, message) for label, word in _LABEL_WORDS.items()}
            if min(named.values()) >= 0 and not (_NOT_NORMAL.search(message) or _NOT_ANOMALOUS.search(message)):
                return max(named, key=lambda label: named[label])
            return self._label(message, self._intent.name)
        return None

    @staticmethod
    def _is_labelled(message: str) -> bool:
        return any(pattern.search(message) for pattern in (_NORMAL, _NOT_NORMAL, _NOT_ANOMALOUS, _ANOMALOUS_WORD))

    def _correction_or_question(self, message: str, name: str, *, question: bool, sure: bool) -> tuple[str, bool]:
        """The intent, where a label is named: a statement corrects, a question asks for the verdict."""
        labelled, judged = self._is_labelled(message), bool(self._conversation.last_list)
        if name in ("judge", "chat", "record") and labelled and not question and judged:
            return "correct_normal", sure
        if question and labelled and judged and (not sure or name == "chat"):
            return "explain", True
        if name.startswith("correct_") and question and not _MARK.search(message) and (sure or labelled):
            return "explain", True
        return name, sure

    def _of_intent(self, name: str, message: str, number: int | None) -> Action:
        named = self._named(message)
        if name == "greet":
            return Action("greet", {"thanks": True} if _THANKS.search(message) else {})
        if name == "sources":
            return Action("sources")
        if name in _HELP:
            return Action("help", {"topic": _HELP[name]} if _HELP[name] else {})
        if name == "language":
            chosen = next((code for code, pattern in _LANGUAGE_NAMES.items() if pattern.search(message)), None)
            return Action("language", {"language": chosen})
        if name == "use":
            return Action("use", {"name": named}) if named else Action("clarify", {"about": "source"})
        if name == "undo":
            target = VERDICT_ID.search(message) or CASE_ID.search(message)
            return Action("undo", {"target": target[1] if target else self._conversation.to_undo})
        if name == "no" and self._conversation.pending:
            return Action("decline")
        if name == "history":
            return self._history(message)
        if name == "trend":
            return Action("trend", {"source": named or self._conversation.source})
        if name == "cases":
            return self._cases(message)
        if name in _ABOUT_A_VERDICT:
            # what would make it normal is one of the facts
            tool = "explain" if name == "what_if" else name
            numbers = {"numbers": True} if tool == "explain" and _NUMBERS.search(message) else {}
            return self._about(tool, message, number, **numbers)
        if name == "judge" and self._conversation.last_list:
            return self._about("explain", message, number)
        return Action("clarify", {"about": about} if (about := {"chat": "chat", "judge": "record"}.get(name)) else {})

    def _named(self, message: str) -> str | None:
        """The source that a message names."""
        found = (known for known in self._names if re.search(rf"(?<![\w-]){re.escape(known)}(?![\w-])", message))
        return next(found, None) or next((known for known in self._names if known.lower() in message.lower()), None)

    def _cases(self, message: str) -> Action:
        label: Label | None = "anomalous" if _ANOMALOUS_WORD.search(message) else None
        label = label or ("normal" if _NORMAL_WORD.search(message) else None)
        named = self._named(message)
        words = " ".join(search_words(message, self._names))
        wanted = {"source": named or self._conversation.source, "label": label, "words": words}
        return Action("cases", {**wanted, "top": parsing.how_many(message)})

    def _history(self, message: str) -> Action:
        since, named = parsing.since(message, datetime.now().astimezone()), self._named(message)
        listed = self._conversation.listed
        counting = bool(parsing.COUNTING.search(message.lower()))
        wanted = {"since": since, "top": parsing.how_many(message), "worst": not counting}
        if since is None and not named and len(listed) > 1 and (counting or parsing.WORST.search(message.lower())):
            return Action("listed", {**wanted, "verdict_ids": listed})
        return Action("history", {**wanted, "source": named or self._conversation.source})

    def _about(self, tool: str, message: str, number: int | None, **arguments: Any) -> Action:
        """An action on the verdict that a message means: by its id, by an ordinal, or the last one."""
        ids = self._conversation.listed if number else self._conversation.last_list
        if match := VERDICT_ID.search(message):
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
