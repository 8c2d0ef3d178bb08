"""What a message says besides its intent: yes or no, which verdict, since when, how many."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_YES = """
yes yess yep yea yeah yup ya sure aye affirmative proceed agreed approved definitely ok okay correct right exactly
confirm confirmed do it go ahead please absolutely y
네 네네 넵 넵넵 넹 예 응 응응 웅 어 ㅇㅇ ㅇㅋ ㄱㄱ ㅇ 그래 그래요 당연하지 물론 물론이지 물론이죠
물론입니다 맞아 맞아요 맞습니다 맞네 좋아 좋아요 좋습니다 오케이 오키 오케 콜 동의 동의해 동의합니다 승인
확실해 확실합니다 진행 진행해 진행해줘 진행해주세요 진행시켜 해라 하자 그러자 그렇게하자 그래줘 그렇게 그렇게해
해 해요 줘 해줘 해주세요 확인 부탁해 부탁합니다 주세요 그렇게해줘 바꿔 바꿔줘 고쳐 고쳐줘 지워 지워줘 삭제해
삭제해줘 변경해 변경해줘 수정해 수정해줘 표시해 표시해줘 是 是的 是啊 对 对的 对啊 对对 好 好的 好呀 好吧
好嘞 妥 同意 照办 继续 执行 没问题 必须的 可以 可以的 行 行的 没错 确认 就这样 确定 嗯 嗯嗯 就这么办
请确认 当然 改 改吧 改掉 改过来 删 删吧 删掉 删除 删除吧 标 标吧 标记 标记吧 就这样吧 确认修改
"""
_NO = """
no nope nah cancel stop don't dont not wait never nevermind leave n
아니 아니요 아니오 아뇨 아냐 아니야 안돼 싫어 됐어요 둬 하지마 마 마세요 하지마세요
취소 취소해 취소할게요 됐어 그만 취소해줘 말아줘
不 不是 不要 不用 不用了 算了 取消 别 先别改 别改 不对 不行 停 先不要 先不动 先不改 不必
"""
_YES_WORDS, _NO_WORDS = frozenset(_YES.split()), frozenset(_NO.split())
_FILLER_WORDS = "please it that the now thanks thank you so just that's is 그거 그것 그냥 요 吧 啊 了 呀 请"
# written without spaces, such as 嗯嗯可以 and ㅇㅇ그렇게해줘
_ASIAN_YES = sorted((word for word in _YES_WORDS if not word.isascii()), key=len, reverse=True)
_CHAINED_YES = re.compile(
    rf"(?:{'|'.join(_ASIAN_YES)})(?:{'|'.join(_ASIAN_YES)}|네|요|그거|그것|이거|저장|그걸로|그거로|这个|这条|它|你|帮我|请|标|记|存"
    r"|[吧啊呀的哦啦哈])*"
)
_FILLERS = frozenset(_FILLER_WORDS.split())
_ORDINALS = (
    (re.compile(r"\b(first|1st)\b|첫\s?번?째|첫번째|第[一1]"), 1),
    (re.compile(r"\b(second|2nd|middle)\b|두\s?번째|둘째|第[二两2]"), 2),
    (re.compile(r"\b(third|3rd)\b|세\s?번째|셋째|第[三3]"), 3),
    (re.compile(r"\b(fourth|4th)\b|네\s?번째|넷째|第[四4]"), 4),
    (re.compile(r"\b(fifth|5th)\b|다섯\s?번째|第[五5]"), 5),
    (re.compile(r"\blast (one|line|record)\b|마지막|最后一"), -1),
)
_NUMBERED = re.compile(
    r"(?:\b(?:number|no\.?|line|record)\s*|#)(\d+|one|two|three|four|five)\b|(\d+)(?:th|번째|번)|第(\d+)"
)
_NUMBER_WORDS = "one two three four five six seven eight nine ten"
_WORDS = {word: number for number, word in enumerate(_NUMBER_WORDS.split(), 1)}
_KOREAN = {"한": 1, "두": 2, "세": 3, "네": 4, "다섯": 5, "여섯": 6, "일곱": 7, "여덟": 8, "아홉": 9, "열": 10}
_HAN = {"一": 1, "两": 2, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9, "十": 10}
_TOP = re.compile(
    rf"\b(?:top|last|worst|first|latest)\s+(\d+|{'|'.join(_WORDS)})\b(?!\s*(?:hour|minute|day|week))|(\d+)\s*(?:개|건|条|个)"
    rf"|({'|'.join(_KOREAN)})\s?(?:개|건)|([{''.join(_HAN)}])[条个]|상위\s*(\d+)|前(\d+)"
)
_SPAN = re.compile(
    r"(\d+|an?|the last)?\s*(minute|hour|day|week|분|시간|일|주)s?\b|(\d+)\s*(分钟|小时|天|周)"
    r"|(?:지난|최근)\s*(\d+)?\s*(분|시간|일|주)|[过近](?:去)?(\d+)?个?(分钟|小时|天|周)"
)
_UNITS = {"minute": 1, "분": 1, "分钟": 1, "hour": 60, "시간": 60, "小时": 60, "day": 1440, "일": 1440, "天": 1440}
_UNITS |= {"week": 10080, "주": 10080, "周": 10080}
COUNTING = re.compile(r"\bhow many\b|\bcount\b|몇\s?(?:개|건)|얼마나 많|多少|几条|几个")
WORST = re.compile(
    r"\b(worst|most (?:serious|severe|critical|anomalous|urgent|dangerous|suspicious))\b"
    r"|(?:제일|가장)\s?(?:심|나쁜|이상|위험|안\s?좋)|최악|最(?:严重|糟|异常|危险|坏|可疑)"
)


def answer_to_question(message: str) -> bool | None:
    """Yes or no, in any of the languages; None for anything else."""
    words = [word for word in re.findall(r"[\w']+", message.lower()) if word not in _FILLERS]
    if not words or len(words) > 6 or re.search('[?\uff1f`"“]', message):
        return None
    joined = "".join(words)
    if joined in _NO_WORDS or any(word in _NO_WORDS or word[:1] in "不别" for word in words):
        return False
    if all(word in _YES_WORDS for word in words) or _CHAINED_YES.fullmatch(joined):
        return True
    return None


def begins_with_yes(message: str) -> bool:
    """Whether a message begins with a yes, and neither asks nor doubts."""
    words = re.findall(r"[\w']+", message.lower())
    doubts = r"[?\uff1f]|\bbut\b|\bif\b|\bwait\b|\blater\b|지만|는데|나중|잠깐|만약|但|不过|如果|等"
    return bool(words) and words[0] in _YES_WORDS and not re.search(doubts, message.lower())


def ordinal(message: str) -> int | None:
    """Which of several is meant, from 1; -1 is the last."""
    text = message.lower()
    if match := _NUMBERED.search(text):
        word = next(group for group in match.groups() if group)
        return _WORDS.get(word) or int(word)
    return next((number for pattern, number in _ORDINALS if pattern.search(text)), None)


def how_many(message: str) -> int:
    """How many a list is to have: 5 unless the message says, at most 50."""
    if match := _TOP.search(message.lower()):
        word = next(group for group in match.groups() if group)
        number = _WORDS.get(word) or _KOREAN.get(word) or _HAN.get(word) or int(word)
        return max(1, min(50, number))
    return 5


def since(message: str, now: datetime) -> datetime | None:
    """From when on, or None where the message names no time."""
    text = message.lower()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if re.search(r"\byesterday\b|어제|昨天", text):
        return (midnight - timedelta(days=1)).astimezone(UTC)
    if re.search(r"\btoday\b|\bthis morning\b|오늘|今天", text):
        return midnight.astimezone(UTC)
    if re.search(r"\bthis week\b|이번\s?주|这周|本周", text):
        return (midnight - timedelta(days=now.weekday())).astimezone(UTC)
    if (match := _SPAN.search(text)) and re.search(r"last|past|since|within|지난|최근|동안|过去|最近|近", text):
        unit = next(group for group in match.groups() if group in _UNITS)
        number = next((int(group) for group in match.groups() if group and group.isdecimal()), 1)
        return (now - timedelta(minutes=min(number, 10_000) * _UNITS[unit])).astimezone(UTC)
    return None
