"""Values that a message gives to fields, in three languages."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_LINKS = "was|were|is|are|had been|be|to|of|equal|equals|only|just|at|만|가|이|를|을|는|은|로|으로|값|횟수|수"
_LINKS += "|是|为|了|过|只要|才|等于|改成|改为|换成|变成|变为|只有|只|设为|设成|降到|降为|次数"
_NUMBER_OR_QUOTED = r"(-?\d+(?:\.\d+)?|\"[^\"]+\"|'[^']+')"
_WORD = r"([A-Za-z][A-Za-z0-9_.-]*)"
# what must stand between a field and a category, or after the category
_WORD_LINKS = (
    r"(?:\s*[=:]\s*|\W+(?:was|were|is|are|be|to|equals)\W+|\s*(?:만|가|이|를|을|는|은)\s*"
    r"|\s*(?:是|为|等于|改成|改为|换成|变成|变为)\s*)"
)
# common words of columns' names: an English stem, and the Korean and Chinese words
_FIELD_WORDS = (
    ("retr", "재시도|重试"),
    ("second|duration|elapsed|latency|time", "초|소요 ?시간|걸린 ?시간|시간|지연|秒数?|耗时|时长|用时|时间|延迟"),
    ("place|location|city|region|site", "장소|위치|지역|도시|地点|位置|地区|城市|地方"),
    ("country", "국가|나라|国家"),
    ("amount|price|cost|total|sum", "금액|가격|비용|총액|金额|价格|费用|总额"),
    ("count|number|quantity|items", "개수|건수|수량|횟수|数量|个数|次数|件数"),
    ("temp", "온도|温度"),
    ("pressure", "압력|压力"),
    ("speed|rate", "속도|비율|速度|速率|比率"),
    ("size|bytes|length", "크기|용량|길이|大小|字节|长度"),
    ("user|customer|client", "사용자|고객|用户|客户"),
    ("status|state|code", "상태|코드|状态|代码"),
    ("age", "나이|年龄"),
    ("error|fail", "오류|실패|에러|错误|失败"),
    ("cpu", "씨피유|处理器"),
    ("memory|mem", "메모리|内存"),
    ("port", "포트|端口"),
    ("protocol", "프로토콜|协议"),
    ("type|kind|category", "종류|유형|类型|种类"),
    ("day|date", "날짜|요일|日期"),
    ("hour", "시각|小时"),
    ("weight", "무게|중량|重量"),
    ("voltage", "전압|电压"),
    ("current", "전류|电流"),
)


_ENGLISH_NUMBERS = "zero one two three four five six seven eight nine ten"
_KOREAN_NUMBERS = "한 두 세 네 다섯 여섯 일곱 여덟 아홉 열"
_ENGLISH = {word: number for number, word in enumerate(_ENGLISH_NUMBERS.split())}
_KOREAN = {word: number for number, word in enumerate(_KOREAN_NUMBERS.split(), 1)}
_CHINESE = {word: number for number, word in enumerate("一二三四五六七八九十", 1)} | {"两": 2, "零": 0}
_NUMBER_WORDS = (
    (re.compile(rf"\b({'|'.join(_ENGLISH)})(\s)", re.IGNORECASE), _ENGLISH),
    (re.compile(rf"(?<![가-힣])({'|'.join(_KOREAN)})(\s?(?:번|개|회|건|초|시간|분))"), _KOREAN),
    (re.compile(rf"([{''.join(_CHINESE)}])(次|个|条|秒|小时|分钟)"), _CHINESE),
)


def changes(message: str, fields: Iterable[str]) -> dict[str, str]:
    """The values that a message gives to fields: ``retries 3``, ``3 retries``, ``retries가 1``, ``place为home``."""
    found, message = dict[str, str](), _with_digits(message)
    link = rf"\W*(?:(?:{_LINKS})\W*){{0,3}}"
    for name in sorted(fields, key=len, reverse=True):
        field = _called(name)
        match = re.search(field + link + _NUMBER_OR_QUOTED, message, re.IGNORECASE)
        match = match or re.search(_NUMBER_OR_QUOTED + r"\s+" + field, message, re.IGNORECASE)
        # a category is a word
        match = match or re.search(field + _WORD_LINKS + _WORD, message, re.IGNORECASE)
        if match:
            found[name] = match[1].strip("\"'")
    return found


def assignments(message: str, fields: Collection[str]) -> tuple[dict[str, str], str] | None:
    """The values of all fields, where a message has each as ``name=value`` or ``name: value``; and what else."""
    found, rest = dict[str, str](), message
    for name in sorted(fields, key=len, reverse=True):
        field = rf"(?<![A-Za-z0-9_]){re.escape(name)}\s*[=:]\s*"
        match = re.search(field + r"(\"[^\"]*\"|'[^']*'|[^\s,;]+)", rest, re.IGNORECASE)
        if not match:
            return None
        found[name] = match[1].strip("\"'")
        rest = rest[: match.start()] + " " + rest[match.end() :]
    return (found, rest.strip(" ,;{}[]")) if found else None


def _with_digits(message: str) -> str:
    """The message with small numbers before a unit, and English ones, in digits: 한 번, 两次, three retries."""
    for pattern, numbers in _NUMBER_WORDS:
        message = pattern.sub(lambda match, numbers=numbers: str(numbers[match[1].lower()]) + match[2], message)  # type: ignore[misc]
    return message


def _called(name: str) -> str:
    """A pattern of what a field is called: its name, and the words of other languages for it."""
    words = [spoken for stem, spoken in _FIELD_WORDS if re.search(rf"(?:^|[_\W])(?:{stem})", name, re.IGNORECASE)]
    if len(name) > 3 and name.endswith("s"):
        # one retry, two retries
        words.append(
            rf"(?<![A-Za-z0-9_]){re.escape(name[:-3] + 'y' if name.endswith('ies') else name[:-1])}(?![A-Za-z0-9_])"
        )
    spoken = f"|(?:{'|'.join(words)})" if words else ""
    return rf"(?:(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_]){spoken})"
