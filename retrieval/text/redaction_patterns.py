"""The patterns by which secrets are found, and the parts of them that polars searches many texts for.

No pattern repeats a part that can match in two ways, and every repetition that is followed by something else has a
limit, so that the time is linear in the length of a text, whatever the text is.
"""

from __future__ import annotations

import re

from retrieval.text.redaction_names import NUMBER, PHONE, STRONG, SUFFIX, WEAK
from retrieval.text.redaction_numbers import IBAN_LENGTHS
from retrieval.text.redaction_tokens import KEY_LINE, PREFIXED, TOKENS

_CLOSE, _GAP = r"[\"'\]\\]{0,4}", r"[ \t\u00a0]"
_SIGN = rf"(?:{_GAP}{{0,4}}(?:=>|:=|={{1,3}}|:|%3[dD])|{_GAP}{{1,4}}is(?:{_GAP}(?:now|set{_GAP}to))?{_GAP})"
# a text in quotes, which may be escaped; one that is cut off goes on to the end of its line
_QUOTED = r"(?P<quote>\\{0,3}[\"'`])(?P<quoted>(?:(?!(?P=quote))(?:\\.|[^\\\r\n])){0,4096}+)"
# enough to tell whether it is a secret, whose end is searched for then
_BARE = r"(?P<bare>[^\s\"'`]{1,256}+)"
_VALUE = rf"{_GAP}{{0,4}}(?:b(?=['\"]))?(?:{_QUOTED}|{_BARE})"
_CAMEL = r"(?-i:Token|Secret|Pass|Pin|Otp|Session|SessionId|Sid|Signature|Auth|Cookie|Credentials?)"
_WEAK = rf"(?<![A-Za-z0-9])(?:{WEAK})|(?<=[a-z0-9]){_CAMEL}"
ASSIGNED = re.compile(
    rf"(?:(?P<strong>{STRONG})|(?P<weak>{_WEAK})){SUFFIX}{_CLOSE}(?P<sign>{_SIGN}){_VALUE}", re.IGNORECASE
)
# `--password x`, and the short options of commands whose documentation has a password there
FLAG = re.compile(
    rf"(?:(?<![\w-])--?(?:[a-z0-9]{{1,20}}-){{0,3}}(?P<strong>{STRONG}|pass|token|secret){_GAP}{{1,4}}"
    rf"|\bsshpass{_GAP}{{1,4}}-p{_GAP}{{0,4}}|\brequirepass{_GAP}{{1,4}}|\bidentified{_GAP}by{_GAP}{{1,4}}"
    rf"|\b(?:password|pass){_GAP}{{1,4}}(?=['\"])|\bmysql(?:dump|admin)?\b[^\r\n|;]{{0,200}}?{_GAP}-p(?=\S)"
    rf"|\b(?:curl|wget|http)\b[^\r\n|;]{{0,200}}?{_GAP}(?:-u|--user){_GAP}{{1,4}}[\"']?(?P<user>[^\s:\"']{{1,64}}):)"
    rf"{_VALUE}",
    re.IGNORECASE,
)
ELEMENT = re.compile(
    rf"<(?:\w{{1,30}}:)?[\w.-]{{0,40}}?(?:{STRONG}){SUFFIX}(?:{_GAP}[^<>]{{0,200}})?>(?P<bare>[^<>]{{1,8192}}+)<",
    re.IGNORECASE,
)
_SCHEMES = (
    r"bearer|basic|token|digest|negotiate|ntlm|api-?key|key|aws4-hmac-sha256|hmac|oauth|hawk|dpop|splunk|scram-sha-256"
)
HEADER = re.compile(
    rf"authorization{_CLOSE}{_GAP}{{0,4}}(?:=>|[:=]){_GAP}{{0,4}}\\{{0,3}}[\"'\[]{{0,2}}"
    rf"(?:(?P<scheme>{_SCHEMES})[ ]{{1,4}})?(?P<value>[^\s\"'\\\],]{{1,8192}}+)",
    re.IGNORECASE,
)
BEARER = re.compile(r"\b(?:bearer|basic)[ ]{1,4}(?P<value>[A-Za-z0-9._~+/-]{6,}+={0,2})", re.IGNORECASE)
_PAIR = r"[^\s;=,\"'\\]{1,128}=[^\s;,\"'\\]*+"
COOKIES = re.compile(
    rf"cookies?{_CLOSE}{_GAP}{{0,4}}(?:=>|[:=]){_GAP}{{0,4}}\\{{0,3}}[\"'\[]{{0,2}}"
    rf"(?P<value>{_PAIR}(?:;[ ]?[^\s;,\"'\\]++(?:,[ ]\d\d[^;\"'\\\r\n]{{0,40}})?)*+)",
    re.IGNORECASE,
)
URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{1,20}://)(?P<user>[^\s/:@\"'<>]{0,128}):(?P<value>[^\s/\"'<>]{1,256})@"
)
_ENDS = r"(?![A-Za-z0-9])"
TOKEN = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(TOKENS)}){_ENDS}")
RANDOM = re.compile(rf"(?<![A-Za-z0-9_]){PREFIXED}{_ENDS}")
LINE = re.compile(rf"^[ \t]*(?P<value>{KEY_LINE})[ \t\r]*$", re.MULTILINE)
KEY_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
KEY_ENDS = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
KEY_BODY = re.compile(r"[A-Za-z0-9+/]{20}")

CARD = re.compile(
    r"(?:(?<![\w.+-])|(?<=%B))(?:[0-9]{12,19}"
    r"|[0-9]{4}(?P<a>[ .\u00a0-])[0-9]{4}(?P=a)[0-9]{4}(?P=a)[0-9]{4}(?:(?P=a)[0-9]{3})?"
    r"|[0-9]{4}(?P<b>[ .\u00a0-])[0-9]{6}(?P=b)[0-9]{4,5})(?![\w]|[.,][0-9]|-[0-9A-Za-z])"
)
IBAN = re.compile(rf"(?<![A-Za-z0-9-])(?:{'|'.join(IBAN_LENGTHS)})[0-9]{{2}}(?=[ -]?[A-Z0-9])", re.IGNORECASE)
DOMAIN = re.compile(
    r"(?:[\w-]{1,63}\.){1,8}(?P<top>[A-Za-z]{2,24}|xn--[A-Za-z0-9-]{1,59})(?![A-Za-z0-9])|\[[0-9A-Fa-f:.]{3,45}\]"
)
_DIGITS = r"(?:[ ()./\u00a0-]{0,3}[0-9])"
_NAMED = (
    rf"(?<![A-Za-z])(?:{PHONE}|dial(?:l?ed|ing)?){NUMBER}\.?{_CLOSE}{_GAP}{{0,2}}(?:=>|[:=]|is|to)?{_GAP}{{0,2}}[\"']?"
)
PHONES = re.compile(
    rf"(?<![\w+.])(?P<plus>\+[1-9]{_DIGITS}{{7,14}})(?![0-9])"
    rf"|{_NAMED}(?P<named>(?:\+|\()?[0-9]{_DIGITS}{{6,14}})(?![0-9A-Za-z])"
    r"|(?<![\w.+-])(?P<american>(?:1[ .-])?"
    r"(?:\([2-9][0-9]{2}\)[ ]?[2-9][0-9]{2}[ .-]|[2-9][0-9]{2}-[2-9][0-9]{2}-|[2-9][0-9]{2}\.[2-9][0-9]{2}\.)"
    r"[0-9]{4})(?![\w]|[.-][0-9A-Za-z])",
    re.IGNORECASE,
)
IP = re.compile(
    r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w]|\.[0-9])|(?<![\w:.])(?=[0-9A-Fa-f:]{0,4}:)[0-9A-Fa-f:]{2,39}(?:\.[0-9]{1,3}){0,3}(?![\w:])"
)


def _short(pattern: str) -> str:
    """A pattern that matches whatever the pattern does, without long counts, which make searching many texts slow."""
    return re.sub(
        r"\{(\d+)(,\d*)?\}",
        lambda match: f"{{{min(int(match[1]), 8)}{',' if match[2] or int(match[1]) > 8 else ''}}}",
        pattern,
    )


_SECRETS = (
    rf"(?i:(?:{STRONG}|{WEAK}){SUFFIX}{_CLOSE}{_SIGN}|-(?:{STRONG}|pass|token|secret){_GAP}"
    rf"|sshpass|requirepass|identified{_GAP}by|pass(?:word)?{_GAP}{{1,4}}['\"]|mysql(?:dump|admin)?\b.* -p"
    rf"|(?:curl|wget|http)\b.* (?:-u|--user){_GAP}|(?:{STRONG}){SUFFIX}(?:{_GAP}[^<>]*)?>"
    rf"|authorization{_CLOSE}{_GAP}{{0,4}}[:=]|(?:bearer|basic) {{1,4}}[A-Za-z0-9._~+/-]{{6}}"
    rf"|cookies?{_CLOSE}{_GAP}{{0,4}}[:=])",
    r"://[^\s/:@]*:[^\s/]+@",
    *map(_short, TOKENS),
    r"[a-z0-9]_[A-Za-z0-9]{28}",
    r"[A-Za-z0-9+/]{60}",
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY",
)
# by kind, what every text has in which something of the kind is found, as polars reads it
SUSPECT = {
    "secret": "|".join(_SECRETS),
    "card": r"(?:^|[^0-9A-Za-z_.+-]|%B)[0-9]{12}"
    r"|[0-9]{4}[ .\u00a0-][0-9]{4}[ .\u00a0-][0-9]{4}"
    r"|[0-9]{4}[ .\u00a0-][0-9]{6}[ .\u00a0-][0-9]{4}",
    "iban": rf"(?i:(?:{'|'.join(IBAN_LENGTHS)})[0-9]{{2}}(?:[ -]?[A-Z0-9]){{11}})",
    "email": r"(?:@|%40)(?:\[|[^\s@]*\.[A-Za-z])",
    "phone": rf"\+[1-9][0-9 ()./\u00a0-]{{7}}|(?i:{PHONE}|dial)[^0-9\r\n]{{0,24}}[0-9]"
    r"|[2-9][0-9]{2}\)?[ .-]?[2-9][0-9]{2}[ .-][0-9]{4}",
    "ip": r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|:[0-9A-Fa-f]{0,4}:",
}
