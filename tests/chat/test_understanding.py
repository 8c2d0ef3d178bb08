"""What messages of three languages are taken for, and what a message must not have to be a yes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from agent.chat import parsing, shapes
from agent.chat.agent import Agent
from agent.chat.field_values import assignments, changes
from agent.chat.intents import examples, normalise
from agent.chat.search_words import search_words
from agent.core.locale import LANGUAGES, translator
from agent.core.settings import Settings
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_one
from benchmarks.chat import turns_of
from benchmarks.chat_turns import ORDERS, TURNS
from tests.shop import ANOMALOUS, NEW

NOW = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)
MIDNIGHT = NOW.replace(hour=0)


@pytest.fixture(scope="module")
def agent(copy_of: Callable[..., Settings]) -> Iterator[tuple[Agent, list[BaseMessage]]]:
    context = AppContext(copy_of(model="none"))
    made = Agent(context, partial(judge_one, context, build(context)))
    yield made, [HumanMessage(ANOMALOUS), AIMessage("".join(made.answer(ANOMALOUS, [])))]
    context.close()


@pytest.mark.parametrize(
    ("message", "label"),
    [
        ("could you change c7? its label is normal and should be anomalous", "anomalous"),
        ("c7 was marked anomalous by mistake, can you fix it to normal?", "normal"),
        ("c7 케이스 label이 normal로 되어 있던데 anomaly로 바꿔 주실 수 있나요?", "anomalous"),
        ("c7 标反了,其实它是正常的,可以帮我改过来吗", "normal"),
        ("please relabel c7, that is not normal", "anomalous"),
    ],
)
def test_a_request_to_change_a_named_case_asks_for_the_label_that_it_shall_have(
    agent: tuple[Agent, list[BaseMessage]], message: str, label: str
) -> None:
    made, conversation = agent
    action = made.understand(message, conversation)
    assert (action.tool, action.arguments) == ("ask_case", {"case_id": "c7", "change": label})


@pytest.mark.parametrize(
    ("message", "tool"),
    [
        ("could you tell me the reason?", "explain"),
        ("이유를 말해 주세요", "explain"),
        ("请说一下原因", "explain"),
        ("do you know a similar case?", "precedents"),
        ("这和哪些案例像?", "precedents"),
        ("it is a false alarm", "correct"),
        ("이거 오탐이에요", "correct"),
        ("what should we do now", "advice"),
        ("이제 어떻게 해야 할까요", "advice"),
        ("list all of your sources", "sources"),
        ("how many anomalies since yesterday?", "history"),
        ("今天有几条异常?", "history"),
        ("is it getting worse over time?", "trend"),
        ("was that normal?", "explain"),
        ("tell me a story", "clarify"),
        (f"please check this: {ANOMALOUS}", "judge"),
        (f"이거 정상인가요? {ANOMALOUS}", "judge"),
        ("warehouse robot 12 reports that its gripper does not close", "judge"),
        ("dig 2 holes", "clarify"),
        ("what does PANIC mean?", "clarify"),
        ("what is the weather like tomorrow?", "clarify"),
        ("내일 날씨 어때?", "clarify"),
        ("how can I make you learn another file?", "help"),
        ("새 파일은 어떻게 학습해?", "help"),
        ("怎么让你学习新文件?", "help"),
        ("many thanks for that", "greet"),
        (f"{ANOMALOUS} - is that bad?", "judge"),
        (f"{NEW} 이거 괜찮은 건가요?", "judge"),
        ("why was 10.0.0.5 blocked at 12:30:11?", "clarify"),
        (f'is "{ANOMALOUS}" something bad?', "judge"),
    ],
)
def test_what_a_message_asks_for(agent: tuple[Agent, list[BaseMessage]], message: str, tool: str) -> None:
    made, history = agent
    assert made.understand(message, history).tool == tool


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("yes", True),
        ("Yes, please do it.", True),
        ("네", True),
        ("嗯,改吧", True),
        ("嗯嗯可以", True),
        ("ㅇㅇ 그렇게 해", True),
        ("`yes`", None),
        ("no", False),
        ("yes but no", False),
        ("ok, don't", False),
        ("不是", False),
        ("아니요, 하지 마세요", False),
        ("why", None),
        ("ok why", None),
        ("yes anomalous", None),
        ("네, 이상으로", None),
        ("is that right?", None),
        ("yes the database connection was refused again", None),
        ("", None),
    ],
)
def test_yes_and_no(message: str, answer: bool | None) -> None:
    assert parsing.answer_to_question(message) is answer


@pytest.mark.parametrize(
    ("message", "begin"),
    [
        ("since yesterday?", MIDNIGHT - timedelta(days=1)),
        ("오늘", MIDNIGHT),
        ("in the last 3 hours", NOW - timedelta(hours=3)),
        ("지난 2일 동안", NOW - timedelta(days=2)),
        ("最近5小时", NOW - timedelta(hours=5)),
        ("what is worst", None),
        ("it took 3 hours", None),
    ],
)
def test_since_when(message: str, begin: datetime | None) -> None:
    assert parsing.since(message, NOW) == begin


@pytest.mark.parametrize(
    ("message", "values"),
    [
        ("would it be normal with 3 retries?", {"retries": "3"}),
        ("retries가 1이면", {"retries": "1"}),
        ("如果retries是1,seconds为2.5", {"retries": "1", "seconds": "2.5"}),
        ("what if place were home", {"place": "home"}),
        ("place만 home으로 바꾸면?", {"place": "home"}),
        ("재시도가 한 번이었으면 정상이야?", {"retries": "1"}),
        ("要是只重试了两次呢", {"retries": "2"}),
        ("with one retry?", {"retries": "1"}),
        ("what if it were cheaper", {}),
    ],
)
def test_changed_fields(message: str, values: dict[str, str]) -> None:
    assert changes(message, ["retries", "seconds", "place"]) == values


def test_a_row_is_one_that_has_all_columns() -> None:
    columns = ["retries", "seconds", "place"]
    row = {"retries": "48", "seconds": "7.9", "place": "abroad"}
    assert assignments("retries=48, seconds: 7.9, place=abroad", columns) == (row, "")
    assert assignments("retries=48, seconds=7.9, place=abroad 这行正常吗", columns) == (row, "这行正常吗")
    assert assignments("what if retries=48, seconds=7.9", columns) is None
    assert assignments("anything", []) is None


def test_how_many_and_which() -> None:
    assert [parsing.how_many(text) for text in ("top 3", "다섯 개만", "前7", "the worst two", "show", "top 999")] == [
        3,
        5,
        7,
        2,
        5,
        50,
    ]
    ordinals = [parsing.ordinal(text) for text in ("the 2nd", "두 번째는", "第三条", "number 7", "the last one", "why")]
    assert ordinals == [2, 2, 3, 7, -1, None]


def test_no_turn_of_the_benchmark_is_an_example() -> None:
    known = {normalise(text) for code in LANGUAGES for listed in examples(code).values() for text in listed}
    turns = [turn for listed in TURNS.values() for turn in listed]
    assert (len(turns), len(ORDERS)) == (150, 20)
    assert not [
        turn.text for turn in turns if turn.tool not in ("confirm", "decline") and normalise(turn.text) in known
    ]


def test_catalogs_have_the_same_sentences_and_placeholders() -> None:
    import re

    from agent.core.locale import FOLDER, read_catalog

    korean, chinese = read_catalog(FOLDER, "ko"), read_catalog(FOLDER, "zh")
    assert set(korean) == set(chinese)
    assert len(korean) > 40
    for catalog in (korean, chinese):
        for sentence, translated in catalog.items():
            assert set(re.findall(r"{\w+}", sentence)) == set(re.findall(r"{\w+}", translated)), sentence
    assert [translator(language)("Anomalous") for language in LANGUAGES] == ["Anomalous", "이상", "异常"]


def test_the_weights_of_the_embedding_are_of_the_examples() -> None:
    """After a change of en.toml: ``python -m agent.chat.intents``."""
    from importlib.resources import files

    import numpy as np

    from agent.chat.intents import examples_digest

    with (files("agent.chat") / "phrases" / "en.npz").open("rb") as file, np.load(file) as stored:
        assert str(stored["digest"]) == examples_digest()


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_phrasing_is_an_example_of_two_intents_of_which_one_changes_anything(code: str) -> None:
    intents = dict[str, set[str]]()
    for intent, listed in examples(code).items():
        for text in listed:
            intents.setdefault(normalise(text), set()).add(intent)
    changing = {"correct_normal", "correct_anomalous", "delete_case", "use"}
    assert not [text for text, names in intents.items() if len(names) > 1 and names & changing]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("cases about disk failures", ["disk", "failure"]),
        ('search the casebook for "lost sectors"', ["lost", "sectors"]),
        ("list the anomalous cases of shop", []),
        ("show me what you have on payment timeouts", ["payment", "timeout"]),
        ("결제에 대한 사례 있어?", ["결제"]),
        ("disk failure 관련 사례", ["disk", "failure"]),
        ("关于磁盘的案例", ["磁盘"]),
        ("案例列表", []),
    ],
)
def test_words_to_search_for(message: str, words: list[str]) -> None:
    assert search_words(message, ["shop"]) == words


@pytest.mark.parametrize(
    "text",
    ["is it down?", "whats this", "왜 멈췄어", "이거 정상인가요", "哪个坏了", "这样行吗", "ok and why", "y is that"],
)
def test_questions_of_three_languages(text: str) -> None:
    assert shapes.is_question(text)


@pytest.mark.parametrize("text", ["what=3 why=4", "disk is full", "디스크가 가득 찼습니다", "磁盘已满", "history=on"])
def test_what_is_no_question(text: str) -> None:
    assert not shapes.is_question(text)


def test_the_turns_of_a_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "turns.py"
    file.write_text('WHY = "why"\nTURNS = [("en", "one", WHY, "explain"), ("ko", "fresh", "네", "clarify help")]\n')
    assert [(language, turn.text) for language, turn in turns_of(file)] == [("en", "why"), ("ko", "네")]
    for wrong in ("TURNS = []", 'TURNS = [("en", "nowhere", "why", "explain")]'):
        file.write_text(wrong)
        with pytest.raises(ValueError, match=r"turns\.py: "):
            turns_of(file)
