"""Forms of many lines at once that are equal only where the lines are masked alike (`retrieval.text.masking`).

The rules of masking are applied by polars, whose regular expressions neither look around nor tell which rule matched:
one pass for each kind of placeholder, in the order of the rules, and a mark for what it replaces. That gives what
masking gives unless a part that a later pass replaces begins before, and reaches into, one that was replaced already.
Lines where what stands before a mark leaves that possible keep the lengths of their numbers instead
(`retrieval.text.template_hash`).
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from retrieval.text.masking import MONTHS, RULES
from retrieval.text.template_hash import joined, template_skeleton, template_skeletons

if TYPE_CHECKING:
    import polars as pl

# what begins each mark, and the forms that are not of marks; lines that hold it are not rewritten
_MARK = "\x02"
_OF_SKELETON, _OF_WORDS = _MARK + "=", _MARK + "^"
# of what a mark stands for the shortest, with as little in it as possible that ends a sentence; of addresses of mail
# nothing short stands for all
_SHORTEST = {
    "time": "1:11:11", "date": "11/11/11", "uuid": "11111111-1111-1111-1111-111111111111", "email": "a@b.cd",
    "ip": "1.1.1.1", "ip6": "1::1", "hex": "c1111111", "n": "1",
}  # fmt: skip
# none is a part of what is masked, or of a word
_MARKS = {name: _MARK + sign for name, sign in zip(_SHORTEST, "!#%&*<;~", strict=True)}
_HEX = "[0-9a-fA-F]"
_MIXED = rf"(?={_HEX}*\d)(?={_HEX}*[a-fA-F]){_HEX}{{8,}}"
# addresses that do not begin like a time, which comes first in the rules
_LETTERED = rf"(?:[a-fA-F]{_HEX}{{0,3}}|\d[a-fA-F]{_HEX}{{0,2}}|\d\d[a-fA-F]{_HEX}?|\d{{3}}[a-fA-F])"
_SURE = (
    ("ip", r"\b(?:\d{3}\.\d{1,3}\.\d{1,3}|\d\d?\.(?:\d|\d{3})\.\d{1,3}|\d\d?\.\d\d\.\d)\.\d{1,3}(?::\d+)?\b"),
    (
        "ip6",
        rf"\b{_LETTERED}:(?:{_HEX}{{1,4}}:){{2,6}}:?{_HEX}{{1,4}}\b|\b{_LETTERED}::{_HEX}{{1,4}}\b",
    ),
)
# kinds that are searched together, and replaced one after another where any is found
_TOGETHER = (("time", "date", "uuid", "email"), ("ip", "ip6", "hex"))
# beyond ASCII: letters and digits, which are parts of words for masking, and what no pattern here is sure of
_WORD = r"[[^\x00-\x7f]&&[\p{L}\p{N}]]"
_DIGIT_OR_MAIL = r"[[^\x00-\x7f]&&\p{N}]|[^\x00-\x7f][0-9A-Za-z_.+-]*@|@[0-9A-Za-z_-]*[^\x00-\x7f]"
_HIDDEN = r"[\u{ad}\u{200b}-\u{200f}\u{202a}-\u{202e}\u{2060}-\u{2064}\u{2066}-\u{206f}\u{feff}]"
_APART = re.compile(r"_([^\W_]+)_")


def masked_forms(lines: pl.Series, *, longest: int, keeps_numbers: bool = False) -> pl.Series:
    """Forms of n lines: where two are equal, so are their masked texts.

    Parameters
    ----------
    lines
        Texts without line ends.
    longest
        Characters of a line beyond which its numbers keep their lengths.
    keeps_numbers
        Whether some numbers stay when they are masked (`retrieval.text.kept_numbers`). Of lines with equal forms the
        masked texts are then equal if the numbers that may stay are.

    Examples
    --------
    >>> import polars as pl
    >>> forms = masked_forms(pl.Series(["job 7 at 10.0.0.1", "job 4711 at 192.168.0.17", "job x"]), longest=1000)
    >>> forms[0] == forms[1], forms[0] == forms[2]
    (True, False)
    """
    is_ascii = lines.str.len_bytes() == lines.str.len_chars()
    excluded = (lines.str.len_chars() > longest) | lines.str.contains(_MARK, literal=True)
    if is_ascii.all():
        forms = _marked(lines)
    else:
        others = (~is_ascii).arg_true()
        plain = lines.gather(others).str.normalize("NFKC").str.replace_all(_HIDDEN, "")
        excluded.scatter(others, excluded.gather(others) | plain.str.contains(_DIGIT_OR_MAIL))
        forms = _marked(lines.clone().scatter(others, plain))
        forms.scatter(others, _of_words(plain, forms.gather(others)))
    unsure, mail = _unsure(), lines.str.contains("@", literal=True).arg_true()
    excluded |= forms.str.contains(unsure.any_line)
    if len(mail):
        excluded.scatter(mail, excluded.gather(mail) | forms.gather(mail).str.contains(unsure.of_mail))
    if keeps_numbers:
        excluded |= forms.str.contains(unsure.kept)
    if len(places := excluded.arg_true()):
        forms.scatter(places, _OF_SKELETON + template_skeletons(joined(lines.gather(places))))
    return forms


def form_of_one(text: str) -> str:
    """A form of one text without NUL, in which numbers keep their lengths: equal to others only as `masked_forms`."""
    return _OF_SKELETON + template_skeleton(text)


def shortest_of(form: str) -> str:
    """The shortest text of a form, which has a prompt injection if any text of the form has one.

    That holds for forms without addresses of mail, which `holds_mail` finds.

    >>> import polars as pl
    >>> shortest_of(masked_forms(pl.Series(["job 4711 at 192.168.0.17"]), longest=1000)[0])
    'job 1 at 1.1.1.1'
    """
    if form.startswith(_OF_SKELETON):
        return form.removeprefix(_OF_SKELETON)
    if form.startswith(_OF_WORDS):
        form = _APART.sub(r"\1", form.removeprefix(_OF_WORDS))
    for name, mark in _MARKS.items():
        form = form.replace(mark, _SHORTEST[name])
    return form


def holds_mail(forms: pl.Series) -> pl.Series:
    """Which forms stand for texts with an address of mail, whose words may be anything."""
    return forms.str.contains(_MARKS["email"], literal=True)


class _Pass(NamedTuple):
    """Patterns with their marks, and one that any of them matches."""

    any_of: str
    marks: list[tuple[str, str]]


@cache
def _passes() -> list[_Pass]:
    """What is replaced, in this order, before numbers are."""
    found = [[(_of_bytes(pattern), _MARKS[kind]) for kind, pattern in _SURE]]
    rules = [("ip6" if name == "ip" and _HEX in pattern else name, pattern) for name, pattern in RULES]
    for kinds in _TOGETHER:
        of_kinds = [(kind, [_of_bytes(pattern) for name, pattern in rules if name == kind]) for kind in kinds]
        found.append([("|".join(patterns), _MARKS[kind]) for kind, patterns in of_kinds])
    return [_Pass("|".join(pattern for pattern, _ in marks), marks) for marks in found]


@cache
def _number() -> str:
    return _of_bytes(next(pattern for name, pattern in RULES if name == "n"))


def _of_bytes(pattern: str) -> str:
    """A rule of masking as a regular expression of polars that takes nothing beyond ASCII for a letter."""
    return f"(?-u:{pattern.replace(_MIXED, _mixed())})"


def _mixed() -> str:
    """At least eight hexadecimal digits, among them a digit and a letter, without looking ahead."""
    found = list[str]()
    for first, other in (("[0-9]", "[a-fA-F]"), ("[a-fA-F]", "[0-9]")):
        found += [f"{first}{{{count}}}{other}{_HEX}{{{7 - count},}}" for count in range(1, 7)]
        found.append(f"{first}{{7,}}{other}{_HEX}*")
    return f"(?:{'|'.join(found)})"


class _Unsure(NamedTuple):
    """Patterns of marked lines that masking may read in another way.

    Those of any line, those of a line with an ``@``, marks next to letters beyond ASCII, and numbers next to what may
    become a time or an address where the number stays.
    """

    any_line: str
    of_mail: str
    in_words: str
    kept: str


@cache
def _unsure() -> _Unsure:
    def mark_of(*kinds: str) -> str:
        return f"{_MARK}[{''.join(_MARKS[kind][1] for kind in kinds)}]"

    any_mark, found = mark_of(*_MARKS), mark_of(*(kind for kind in _MARKS if kind != "n"))
    time, address, number = mark_of("time", "date"), mark_of("ip", "ip6"), mark_of("hex", "n")
    return _Unsure(
        rf"[0-9A-Za-z_]{found}|{any_mark}[.,:/]?{found}|{any_mark}-(?:{time}|{address})"
        rf"|(?-u:\b)[a-fA-F]{{1,4}}:{time}|:[a-fA-F]{{1,4}}:{address}|::(?:{time}|{address})",
        rf"[.+@:-]{found}",
        f"{_WORD}{found}|{found}{_WORD}",
        rf"{number}(?:{'|'.join(MONTHS)}|{_HEX}{{1,4}}:)|@",
    )


def _marked(texts: pl.Series) -> pl.Series:
    """The texts, in a new series, with a mark for each part that is masked."""
    texts = texts.clone()
    for step in _passes():
        places = texts.str.contains(step.any_of).arg_true()
        if not len(places):
            continue
        found = texts.gather(places)
        for pattern, mark in step.marks:
            found = found.str.replace_all(pattern, mark)
        texts.scatter(places, found)
    return texts.str.replace_all(_number(), _MARKS["n"])


def _of_words(texts: pl.Series, marked: pl.Series) -> pl.Series:
    """The marked texts; those with a mark next to letters beyond ASCII marked again, where words go on."""
    places = marked.str.contains(_unsure().in_words).arg_true()
    if len(places):
        # what is next to an underscore is inside of a word for the patterns too
        apart = texts.gather(places).str.replace_all(f"({_WORD}+)", "_${1}_")
        marked.scatter(places, _OF_WORDS + _marked(apart))
    return marked
