"""Where a text holds secrets and personal data, one function a rule."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from retrieval.text import redaction_patterns as patterns
from retrieval.text.redaction_names import is_state, looks_secret
from retrieval.text.redaction_numbers import IBAN_LENGTHS, card_lengths, is_iban, is_international, phone_key

PLACEHOLDER = re.compile(r"<(?:secret|card|iban|email|phone|ip):[0-9]{10}>")
_NEXT_PAIR = re.compile(r"[,;&|](?=[\w.-]{1,64}[=:])|&")
_END_OF_WORD = re.compile(r"[\s\"'`]")
_END_OF_LINE = re.compile(r"[\r\n]|$")
# schemes of HTTP authentication with parameters after the first, RFC 9110 and the services' documentation
_WITH_PARAMETERS = frozenset({"digest", "aws4-hmac-sha256", "oauth", "hawk", "hmac", "scram-sha-256"})
# names whose values in an assignment are secret unless they are states, beside those in all texts
_ASSIGNED = re.compile(r"(?:secret|pass|t?otp|pin)(?![a-z])", re.IGNORECASE)
# endings of files and of units of systemd that follow an "@" in their names
_NOT_DOMAINS = frozenset(
    re.findall(
        r"\S+",
        """
        png jpg jpeg gif svg webp ico bmp js mjs cjs ts tsx css scss html htm txt log json xml yaml yml toml conf cfg
        ini service timer socket target mount automount slice scope device path swap so jar war class java cpp hpp tar
        gz zip tgz whl deb rpm exe dll lock bak tmp csv parquet
        """,
    )
)
_FEWEST_PHONE, _MOST_PHONE = 7, 15


class Found(NamedTuple):
    """A part of a text that is to be replaced, its kind, and the form in which it is compared with others."""

    start: int
    end: int
    kind: str
    key: str


def _secret(text: str, start: int, end: int) -> Found:
    return Found(start, end, "secret", text[start:end])


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The part of a bare value without what follows it: the next pair, and marks of punctuation around it."""
    if cut := _NEXT_PAIR.search(text, start + 1, end):
        end = cut.start()
    while start < end and text[start] in "([{":
        start += 1
    while start < end and text[end - 1] in ",;:.!?)]}":
        end -= 1
    return start, end


def _value(text: str, match: re.Match[str]) -> tuple[int, int]:
    """Where the value of an assignment is, as far as the pattern looked at it."""
    return match.span("quoted") if match["bare"] is None else _trimmed(text, *match.span("bare"))


def _whole_value(text: str, match: re.Match[str]) -> tuple[int, int]:
    """Where the value of an assignment is, up to its end."""
    if match["bare"] is not None:
        start, end = match.span("bare")
        last = _END_OF_WORD.search(text, end)
        return _trimmed(text, start, last.start() if last else len(text))
    start, end = match.span("quoted")
    if not text.startswith(match["quote"], end):
        stops = [place for place in (text.find(match["quote"], end), text.find("\n", end)) if place >= 0]
        end = min(stops, default=len(text))
    return start, end


def _is_secret(match: re.Match[str], value: str) -> bool:
    if is_state(value):
        return False
    sign = match["sign"].strip().casefold()
    is_assigned = sign != "is" and not (
        sign == ":" and match["bare"] is not None and match["sign"].endswith((" ", "\t"))
    )
    if match["strong"] is not None:
        if match["strong"].casefold().endswith("pwd") and re.match(r"[/~]|[A-Za-z]:\\", value):
            return False
        return not (value.isdigit() and len(value) < 3)
    name = match["weak"]
    if re.match(r"S-1-\d", value):
        return False
    if is_assigned and _ASSIGNED.match(name):
        return len(value) >= 3 and not (value.isdigit() and (len(value) < 4 or name.casefold() == "pass"))
    return looks_secret(value)


def assigned(text: str) -> Iterator[Found]:
    """Values of names such as ``password`` and ``api_key``."""
    place = 0
    while match := patterns.ASSIGNED.search(text, place):
        start, end = _value(text, match)
        place = max(match.end("sign"), match.start() + 1)
        if start < end and _is_secret(match, text[start:end]):
            start, end = _whole_value(text, match)
            yield _secret(text, start, end)
            place = end


def flags(text: str) -> Iterator[Found]:
    """Values of options of commands, and of statements of SQL and configurations."""
    for match in patterns.FLAG.finditer(text):
        start, end = _value(text, match)
        value = text[start:end]
        if start < end and not is_state(value) and not value.startswith("-"):
            yield _secret(text, *_whole_value(text, match))


def elements(text: str) -> Iterator[Found]:
    """Elements of XML with such names."""
    for match in patterns.ELEMENT.finditer(text):
        if not is_state(match["bare"]):
            yield _secret(text, *match.span("bare"))


def headers(text: str) -> Iterator[Found]:
    """Credentials in headers of HTTP (RFC 9110, RFC 6750, RFC 7617, RFC 6265)."""
    place = 0
    while match := patterns.HEADER.search(text, place):
        start, end = match.span("value")
        scheme = (match["scheme"] or "").casefold()
        if scheme in _WITH_PARAMETERS:
            # the quotes of its parameters are inside of it
            last = _END_OF_LINE.search(text, end)
            end = last.start() if last else len(text)
        # of many in one line, each would look at the rest of it
        place = end
        value = text[start:end]
        if not is_state(value) and (scheme or looks_secret(value)) and not value.isalpha():
            yield _secret(text, start, end)
    for match in patterns.COOKIES.finditer(text):
        if not PLACEHOLDER.search(match["value"]):
            yield _secret(text, *match.span("value"))


def bearers(text: str) -> Iterator[Found]:
    """Tokens after ``Bearer`` and credentials after ``Basic``, wherever they are."""
    for match in patterns.BEARER.finditer(text):
        value = match["value"]
        is_basic = match[0][:5].casefold() == "basic"
        if _is_basic(value) if is_basic else looks_secret(value) and not is_state(value):
            yield _secret(text, *match.span("value"))


def _is_basic(value: str) -> bool:
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return False


def urls(text: str) -> Iterator[Found]:
    """Passwords in addresses (RFC 3986, 3.2.1)."""
    for match in patterns.URL.finditer(text):
        if not is_state(match["value"]):
            yield _secret(text, *match.span("value"))


def private_keys(text: str) -> Iterator[Found]:
    """Private keys in PEM (RFC 7468), over several lines or in one; one that is cut off goes on to the end."""
    place = 0
    while begins := patterns.KEY_BEGINS.search(text, place):
        ends = patterns.KEY_ENDS.search(text, begins.end())
        place = ends.end() if ends else len(text)
        if patterns.KEY_BODY.search(text, begins.end(), place):
            yield Found(begins.start(), place, "secret", re.sub(r"\\[nr]|\s", "", text[begins.end() : place]))


def tokens(text: str) -> Iterator[Found]:
    """Credentials of known formats."""
    for match in patterns.TOKEN.finditer(text):
        yield _secret(text, *match.span())
    for match in patterns.RANDOM.finditer(text):
        last = match[0].rpartition("_")[2]
        if any(map(str.isdigit, last)) and any(map(str.isupper, last)) and any(map(str.islower, last)):
            yield _secret(text, *match.span())


def key_lines(text: str) -> Iterator[Found]:
    """Lines of Base64, of which private keys consist."""
    for match in patterns.LINE.finditer(text):
        value = match["value"]
        if not re.fullmatch(r"[0-9a-f]+|[0-9A-F]+|[A-Za-z]+", value):
            yield _secret(text, *match.span("value"))


def ibans(text: str) -> Iterator[Found]:
    """Numbers of accounts."""
    for match in patterns.IBAN.finditer(text):
        code, place, length = "", match.start(), IBAN_LENGTHS[match[0][:2].upper()]
        while place < len(text) and len(code) < length:
            char = text[place]
            if char.isascii() and char.isalnum():
                code += char.upper()
            elif char not in " -\u00a0" or text[place - 1] in " -\u00a0":
                break
            place += 1
        if is_iban(code) and not text[place : place + 1].isalnum():
            yield Found(match.start(), place, "iban", code)


def cards(text: str) -> Iterator[Found]:
    """Numbers of payment cards."""
    for match in patterns.CARD.finditer(text):
        places = [place for place in range(*match.span()) if text[place].isdigit()]
        digits = "".join(text[place] for place in places)
        for length in card_lengths(digits):
            # what follows its last digit is no digit
            if length == len(digits) or places[length] > places[length - 1] + 1:
                yield Found(match.start(), places[length - 1] + 1, "card", digits[:length])
                break


def emails(text: str) -> Iterator[Found]:
    """Addresses of mail (RFC 5321, RFC 6531)."""
    last = 0
    for sign in re.finditer("@|%40", text):
        start = sign.start()
        while start > last and sign.start() - start < 64 and (text[start - 1].isalnum() or text[start - 1] in "._%+-"):
            start -= 1
        while start < sign.start() and text[start] in ".%-":
            start += 1
        domain = patterns.DOMAIN.match(text, sign.end())
        if start == sign.start() or domain is None or not _is_domain(domain):
            continue
        local = text[start : sign.start()]
        # the prompt of a shell, or a path on a host
        if re.match(r":[~/]" if local != "git" else "[:/]", text[domain.end() : domain.end() + 2]):
            continue
        last = domain.end()
        yield Found(start, last, "email", f"{local}@{domain[0]}".casefold())


def _is_domain(domain: re.Match[str]) -> bool:
    if domain["top"] is None:
        return True
    return domain["top"].casefold() not in _NOT_DOMAINS and not re.match(r"\d+\.\d+\.", domain[0])


def phones(text: str) -> Iterator[Found]:
    """Numbers of telephones (ITU-T E.164, North American Numbering Plan), others where a name says that they are."""
    for match in patterns.PHONES.finditer(text):
        group = match.lastgroup or ""
        start, end = match.span(group)
        digits = "".join(filter(str.isdigit, match[group]))
        has_plus = match[group].startswith("+")
        if has_plus and not is_international(digits):
            continue
        # a number without a plus or a name is sure by its form alone
        if not _FEWEST_PHONE <= len(digits) <= _MOST_PHONE or (
            group == "plus" and match[group][1:].isdigit() and len(digits) < 10
        ):
            continue
        if group == "american" and not phone_key(digits, has_plus=False).startswith("+1"):
            continue
        yield Found(start, end, "phone", phone_key(digits, has_plus=has_plus))


def addresses(text: str) -> Iterator[Found]:
    """Addresses of the Internet protocol (RFC 791, RFC 4291)."""
    for match in patterns.IP.finditer(text):
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        if address.version == 4 or (any(map(str.isdigit, match[0])) and match[0] != "::"):
            yield Found(*match.span(), "ip", str(address))


FINDERS: dict[str, tuple[Callable[[str], Iterator[Found]], ...]] = {
    "secret": (private_keys, headers, urls, assigned, flags, elements, bearers, tokens, key_lines),
    "iban": (ibans,),
    "card": (cards,),
    "email": (emails,),
    "phone": (phones,),
    "ip": (addresses,),
}
