"""Faults hidden in long lines: anomalous lines of a log with normal text around them, drawn by a seed.

What must not happen: that such a line is called normal, or that normal lines one after another are called anomalous.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.core.records import Verdict, VerdictLabel
from agent.core.requests import JudgeRequest
from agent.core.settings import Settings, settings
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import Pipeline
from agent.training.learn import learn
from benchmarks import bgl
from retrieval.text.masking import mask

POSTGRES = Path(__file__).resolve().parents[1] / "examples" / "postgres"
SMS = bgl.BGL.parents[2] / "sms" / "SMSSpamCollection"
FAULTS, CONCATENATED = 20, 100
_SHORTEST, _LONGEST = 100, 8_000
_LABELS: tuple[VerdictLabel, ...] = ("anomalous", "unsure", "normal")
_CJK = "系统运行正常请求处理完成用户登录成功数据库连接已建立定时任务执行完毕缓存刷新结束"
_HANGUL = "서비스가정상적으로동작하고있으며요청처리가완료되었습니다데이터베이스연결이성공했습니다"


@dataclass(frozen=True)
class Log:
    """Lines to learn, and lines to judge, some of other templates: whether it is anomalous, and the text."""

    name: str
    learned: Sequence[tuple[bool, str]]
    judged: Sequence[tuple[bool, str]]
    brief: str

    def normal(self, rng: random.Random, chars: int) -> list[str]:
        """Different normal lines, of both parts, until they have so many characters."""
        pool = [text for anomalous, text in (*self.learned, *self.judged) if not anomalous]
        chosen = [rng.choice(pool)]
        while sum(map(len, chosen)) < chars:
            chosen.append(rng.choice(pool))
        return chosen


def postgres(_: int) -> Log:
    """The demo's two files, whatever the seed."""
    return Log(
        "postgres",
        _labelled((POSTGRES / "learn.log").read_text(encoding="utf-8")),
        _labelled((POSTGRES / "judge.log").read_text(encoding="utf-8")),
        (POSTGRES / "brief.txt").read_text(encoding="utf-8"),
    )


def bluegene(seed: int) -> Log:
    """BGL_2k, halves of its templates."""
    known, unseen = bgl.halves(seed)

    def pairs(rows: Sequence[object]) -> list[tuple[bool, str]]:
        return [(row.label == "anomalous", row.record.text) for row in rows]  # type: ignore[attr-defined]

    return Log("bgl", pairs(known), pairs(unseen), bgl.BRIEF)


def messages(seed: int) -> Log:
    """500 text messages to learn, 1,000 to judge: prose."""
    rows = SMS.read_text(encoding="utf-8").rstrip("\n").split("\n")
    random.Random(seed).shuffle(rows)
    pairs = [(label == "spam", text) for label, _, text in (row.partition("\t") for row in rows)]
    return Log("sms", pairs[:500], pairs[500:1_500], "Text messages to a private person; spam is anomalous.")


LOGS: dict[str, tuple[Path, Callable[[int], Log]]] = {
    "postgres": (POSTGRES / "learn.log", postgres),
    "bgl": (bgl.BGL, bluegene),
    "sms": (SMS, messages),
}


def _labelled(text: str) -> list[tuple[bool, str]]:
    return [(label != "-", line) for label, _, line in (line.partition(" ") for line in text.splitlines())]


def _chars(rng: random.Random) -> int:
    return int(_SHORTEST * (_LONGEST / _SHORTEST) ** rng.random())


def _padded(place: str) -> Callable[[str, Log, random.Random], str]:
    def padded(fault: str, log: Log, rng: random.Random) -> str:
        lines = log.normal(rng, _chars(rng))
        if place == "repeated":
            lines = [lines[0]] * (1 + _chars(rng) // len(lines[0]))
        at = {"before": len(lines), "after": 0}.get(place, rng.randint(0, len(lines)) if len(lines) > 1 else 1)
        text = " ".join([*lines[:at], fault, *lines[at:]])
        return text[: _LONGEST + len(fault)] if place == "after" else text

    return padded


def _one_line(place: str, fault: str, log: Log, rng: random.Random) -> str:
    """The fault before, after, or inside one text of normal lines without any separation but a space."""
    padding = " ".join(log.normal(rng, _chars(rng)))
    if place == "before":
        return f"{padding} {fault}"
    if place == "after":
        return f"{fault} {padding}"
    return f"{padding} {fault} {' '.join(log.normal(rng, _chars(rng)))}"


def _bare(text: str) -> str:
    return "".join(char if char.isalnum() or char.isspace() else " " for char in text)


PADDINGS: dict[str, Callable[[str, Log, random.Random], str]] = {
    "before": lambda fault, log, rng: _one_line("before", fault, log, rng),
    "after": lambda fault, log, rng: _one_line("after", fault, log, rng),
    "both": lambda fault, log, rng: _one_line("both", fault, log, rng),
    "repeated": _padded("repeated"),
    "other lines": _padded("other lines"),
    "8,000 characters": lambda fault, log, rng: " ".join(
        [*(first := log.normal(rng, 4_000)), fault, *log.normal(rng, 8_000 - sum(map(len, first)))]
    ),
}
OTHER_KINDS: dict[str, Callable[[str, Log, random.Random], str]] = {
    "in quotes": lambda fault, log, rng: f'{fault} (request "{" ".join(log.normal(rng, _chars(rng)))}")',
    "fault in quotes": lambda fault, log, rng: f'{" ".join(log.normal(rng, _chars(rng)))} "{fault}"',
    "JSON": lambda fault, log, rng: json.dumps({"context": log.normal(rng, _chars(rng)), "message": fault, "ok": True}),
    "several lines": lambda fault, log, rng: "\n    ".join([*log.normal(rng, 300), fault, *log.normal(rng, 300)]),
    "split over a line end": lambda fault, log, rng: "\n".join(
        [*log.normal(rng, 300), fault[: len(fault) // 2], f"{fault[len(fault) // 2 :]} {log.normal(rng, 100)[0]}"]
    ),
    "without punctuation": lambda fault, log, rng: (
        f"{_bare(' '.join(log.normal(rng, _chars(rng))))} {fault} {_bare(' '.join(log.normal(rng, 200)))}"
    ),
    "all without punctuation": lambda fault, log, rng: _bare(_one_line("both", fault, log, rng)),
    "Chinese": lambda fault, log, rng: f"{_CJK * (1 + _chars(rng) // 40)}{fault}{_CJK}",
    "Korean": lambda fault, log, rng: f"{_HANGUL * (1 + _chars(rng) // 40)} {fault}",
}


def measure(log: Log, model: str, seed: int) -> None:
    """Learn the log, judge hidden faults and concatenated normal lines, and print how many got which label."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as home:
        context = AppContext(Settings(home=Path(home), model=model, cache=settings().cache))
        file = Path(home) / "learn.jsonl"
        rows = [{"text": text, "label": str(int(anomalous))} for anomalous, text in log.learned]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        options = ReadOptions(format="jsonl", label="label", text=("text",))
        learn(context, [file], log.name, options, brief=log.brief)
        pipeline = Pipeline(context)

        def judge(texts: Sequence[str]) -> list[Verdict]:
            outcomes = pipeline.judge([JudgeRequest(text=text, source=log.name) for text in texts])
            return [verdict for verdict in outcomes if isinstance(verdict, Verdict)]

        candidates = list({mask(text): text for anomalous, text in (*log.learned, *log.judged) if anomalous}.values())
        rng.shuffle(candidates)
        plain = zip(candidates, judge(candidates), strict=True)
        faults = [text for text, verdict in plain if verdict.label == "anomalous"][:FAULTS]
        print(f"{log.name}, seed {seed}: {len(faults)} faults of both parts, anomalous by themselves")
        total: Counter[VerdictLabel] = Counter()
        for kind, hide in PADDINGS.items():
            labels = Counter(verdict.label for verdict in judge([hide(fault, log, rng) for fault in faults]))
            total += labels
            print(f"  {kind:24} {_shown(labels)}")
        print(f"  {'these six':24} {_shown(total)} (target: none normal, at most 20 % unsure)")
        for kind, hide in OTHER_KINDS.items():
            labels = Counter(verdict.label for verdict in judge([hide(fault, log, rng) for fault in faults]))
            print(f"  {kind:24} {_shown(labels)}")
        texts = [" ".join(log.normal(rng, _chars(rng))) for _ in range(CONCATENATED)]
        print(
            f"  {'normal lines together':24} {_shown(Counter(v.label for v in judge(texts)))} (target: < 2 % anomalous)"
        )
        context.close()


def _shown(labels: Counter[VerdictLabel]) -> str:
    count = max(sum(labels.values()), 1)
    return ", ".join(f"{labels[label]:3} {label}" for label in _LABELS) + (
        f" ({labels['anomalous'] / count:.0%}, {labels['unsure'] / count:.0%}, {labels['normal'] / count:.0%})"
    )
