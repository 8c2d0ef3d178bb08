"""The words that a request for cases searches for: what is left of it without the words of the request itself."""

from __future__ import annotations

import re
from collections.abc import Collection

_QUOTED = re.compile(r"[\"“「『]([^\"”」』]+)[\"”」』]|'([^']{3,})'")
_TOPIC = re.compile(
    r"\b(?:about|on|concerning|regarding|mentioning|mentions?|containing|contains?|involving|including|includes?"
    r"|related to"
    r"|relating to|dealing with|deals? with|that (?:have|has|had|say|says)|with the words?|with the term"
    r"|with|where|for|of|like)\b\s*:?",
    re.IGNORECASE,
)
_ENGLISH_WORDS = """
a all an and any anything are around as at be browse by can case casebook cases check could data display do does
dont entries entry every everything example examples exist exists fetch filter find for from get give got grep had
has have hello help hey hi history how i i'd i'm id in info information into is it its just keyword keywords kind
know label labeled labelled labels last latest let let's like list listing look looking lookup many marked me
mention most my need newest of ok on one ones only open or our out over please pls plz point present print pull
query r recent record recorded records relate related same saved search searching see select share show showing sir
so some sort source stored stuff tagged take tell thank thanks that the their them there these they thing things
this those to top topic training u up us view want was we were what what's whats where which who will with word
words would you your yours
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_KOREAN = re.compile(
    r"^(?:사례집?|케이스|예시|예제|기록|로그|목록|리스트|검색|조회|찾아?|보여|알려|나열|뽑아|관련|관하|관한|대하|대한|대해|있는|있어|있나|있으면|있던|들어간|들어|포함"
    r"|언급|단어|라는|이라는|키워드|말이?|좀|다|모두|전부|전체|주세요|줘|줄래|해줘|해주|해|하고|라벨|저장|등록|학습|소스|뭐|무슨|어떤|몇|개|개만|건|것|거|들|혹시|그럼|나"
    r"|내|제|이|그|저|중|중에|에서|안에|된|되어|되는|으로|로|만)"
)
_PARTICLES = re.compile(
    r"(?:이라는|라는|에\s?대한|에\s?관한|에서|으로|에게|이나|과|와|이|가|을|를|은|는|의|에|로|도|만|랑|이랑|하고|들|인)$"
)
_CHINESE = re.compile(
    r"案例库|案例|事例|例子|示例|样例|记录|日志|关于|有关的?|相关的?|关系|跟|和|与|同|包含|包括|含有|带有|带|提到|涉及|列出来?|列表|清单|目录|列一下|列举|列|显示|展示"
    r"|查看|查找|查询|查一下|查下|查|搜索|搜一下|搜下|搜|检索|找一下|找出|找找|找|帮我|帮忙|给我|让我|麻烦|请问|请|看看|看一下|看下|看|一下|一些|所有|全部|都|有没有|有哪些|哪些|哪个"
    r"|有什么|什么|没有|有|的|吗|呢|吧|啊|呀|标注|标记|标签|已经?|过|这个|那个|这些|那些|词|字|几个|几条|几|个|条|在|里面?|中|我想要?|我要|想要|想|要|我|你|能|可以"
    r"|来源|数据源|能不能|是|些|方面|类"
)
_LABELS = re.compile(
    r"\b(?:anomal\w*|abnormal|normal|bad|good)\b|비정상|정상|이상(?!한?\s?\w*온도)|异常|不正常|正常", re.IGNORECASE
)


def search_words(message: str, names: Collection[str]) -> list[str]:
    """The words to search cases for.

    Parameters
    ----------
    message : str
    names : collection of str
        Of sources, which are no words to search for.
    """
    if quoted := [text for groups in _QUOTED.findall(message) for text in groups if text.strip()]:
        return [word for text in quoted for word in text.split()]
    text = message
    for name in names:
        text = re.sub(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", " ", text, flags=re.IGNORECASE)
    text = _LABELS.sub(" ", text)
    # what comes before the last "about" is the request
    parts = _TOPIC.split(text)
    english = parts[-1] if len(parts) > 1 and _content(parts[-1]) else text
    return _content(english)


def _content(text: str) -> list[str]:
    words = list[str]()
    for token in re.findall(r"[A-Za-z][\w./-]*|[가-힣]+|[\u3400-\u9fff]+|\d[\w.]*", text):
        if token.isascii():
            word = token.rstrip(".-/")
            if word.lower() not in _ENGLISH and len(word) > 1 and not word.isdecimal():
                words.append(_singular(word))
        elif "가" <= token[0] <= "힣":
            if not _KOREAN.match(token) and (word := _PARTICLES.sub("", token)):
                words.append(word)
        else:
            words += [word for word in _CHINESE.sub(" ", token).split() if word]
    return words


def _singular(word: str) -> str:
    """A word that the search finds in singular and plural: it looks for parts of words."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
