"""Names of what is secret, in texts and as names of fields, and words that stand in a secret's place without being one.

Sources: the names under which the documentation of the services in `retrieval.text.redaction_tokens` has its
credentials, those of OWASP's Logging Cheat Sheet ("data to exclude"), and the fields of OAuth 2.0 (RFC 6749) and HTTP
(RFC 9110).
"""

from __future__ import annotations

import re

# any value of these is secret
STRONG = (
    r"pass(?:word|wd|phrase|code|wort)|pwd|pswd|kennwort|contrase(?:ñ|n)a|senha|wachtwoord|парол[ья]|密码|パスワード"
    r"|(?:api|app|access|secret|private|signing|encryption|decryption|account|shared|auth|master|storage|service"
    r"|consumer|license|licence|webhook)[ _.-]?key"
    r"|(?:client|app|api|consumer|shared|webhook|signing)[ _.-]?secret"
    r"|(?:access|refresh|auth|bearer|session|api|security|bot|device|csrf|xsrf|id|reset|private|deploy|personal"
    r"|registration)[ _.-]?token"
)
# values of these are secret that look it
WEAK = (
    r"token|secret|pass|pin|t?otp|credentials?|session[ _.-]?id|sess|session|sid|j?sessionid|phpsessid|sessid"
    r"|sig|signature|saml(?:request|response)|auth|authorization|code[_-]verifier|cookie"
)
# what may stand between such a name and its end
SUFFIX = r"(?:[_.-]?(?:value|text|plain|old|new|enc|encrypted|hash|b64|base64|string|confirm(?:ation)?|\d{1,2}))?"
_STRONG_NAME = re.compile(rf"(?:{STRONG}){SUFFIX}", re.IGNORECASE)
_WEAK_NAME = re.compile(rf"(?:^|[^a-z0-9])(?:{WEAK}){SUFFIX}", re.IGNORECASE)
# names of numbers of telephones
PHONE = r"(?:tele)?(?:phone|fon)|tel|mobile|cell(?:ular)?|handy|fax|msisdn|whatsapp|sms|rufnummer"
NUMBER = r"(?:[ _.-]?(?:phone|no|nr|num|number|#)\.?)?"
_PHONE_NAME = re.compile(rf"(?:^|[^a-z])(?:{PHONE}){NUMBER}", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# words that say how a secret is, or go on with a sentence
_STATES = frozenset(
    re.findall(
        r"\S+",
        """
        a about accepted access account action active admin after age ago all already also an and any are as at attempt
        attempts auth authenticated authentication authorization available bad be because been before being below blank
        but by can cannot change changed changes check checking contains correct could created credentials database day
        days default defined denied deprecated did different disabled do does done due eight empty enabled encrypted
        entered error exceeded exists expire expired expires expiry fail failed failing fails failure fetched field file
        for found from generated generation given good had has hash hashed have hidden history host identifier if
        ignored in incorrect invalid invalidated is issue issued it its kept key known last length length: letters link
        locked login long longer lookup malformed masked match matched matches mandatory may mismatch missing must my
        needed needs never new next nil no none not now null of off ok okay old on once one only optional or our out
        outdated parameter passed password passwords per permission permitted plain plaintext please policy present
        provided read received redacted refused rejected removed renewed required requires reset response restored
        retrieved revoked right rotated safe same saved secret secrets secure seen sent server service session set
        shared should shorter so stale starting stored strength string strong success successful succeeded supplied
        tampered that the their there they this to token tokens too true try type undefined unexpected unknown unlocked
        unset unsupported until up update updated updating use used user username using valid validated validation value
        verification verified verify via was weak were will with within without worked works would wrong yes you your
        false n/a na expression statement keyword operator symbol literal number colon semicolon comma bracket paren
        parenthesis eof eol
        """,
    )
)
_VEILED = re.compile(
    r"[*x•#.?_-]{2,}|<[\w :./-]{0,60}>|\[[\w :.-]{0,60}\]|\{\{?[\w :./-]{0,60}\}?\}|\$\{?[A-Za-z_][\w:.-]{0,60}\}?"
    r"|%[A-Za-z_()]{1,30}%?|\(\w{1,20}\)",
    re.IGNORECASE,
)


def is_state(value: str) -> bool:
    """Whether what stands in a secret's place says how it is, or hides it already.

    >>> is_state("expired"), is_state("****"), is_state("${DB_PASSWORD}"), is_state("hunter2")
    (True, True, True, False)
    """
    plain = value.strip().strip(".:!?,;)\"'")
    return not plain or plain.casefold() in _STATES or bool(_VEILED.fullmatch(value.strip()))


def looks_secret(value: str) -> bool:
    """Whether a value looks like no word or number of prose: it mixes kinds of characters, or is long.

    >>> looks_secret("x8Kq0pLm"), looks_secret("identifier"), looks_secret("4711")
    (True, False, False)
    """
    digits, letters = any(map(str.isdigit, value)), any(map(str.isalpha, value))
    if len(value) < 6 or not (digits or letters):
        return False
    mixed = value[1:] != value[1:].lower() and value != value.upper()
    symbols = any(not (char.isalnum() or char in "-_.:/") for char in value)
    if digits and letters:
        return True
    return (letters and (mixed or symbols) and len(value) >= 8) or (
        len(value) >= 20 and not re.search(r"[./\\]", value)
    )


def is_secret_name(name: str) -> bool:
    """Whether any value of a field of this name is a secret.

    >>> is_secret_name("db_password"), is_secret_name("userPwd"), is_secret_name("password_length")
    (True, True, False)
    """
    return _ends_with(_STRONG_NAME, name)


def is_weak_name(name: str) -> bool:
    """Whether a value of a field of this name is a secret if it looks like one.

    >>> is_weak_name("csrfToken"), is_weak_name("max_tokens"), is_weak_name("compass")
    (True, True, False)
    """
    return _ends_with(_WEAK_NAME, _CAMEL.sub("_", name))


def is_phone_name(name: str) -> bool:
    """Whether a field of this name holds numbers of telephones.

    >>> is_phone_name("contactPhone"), is_phone_name("phones_sold")
    (True, False)
    """
    return _ends_with(_PHONE_NAME, _CAMEL.sub("_", name))


def _ends_with(pattern: re.Pattern[str], name: str) -> bool:
    return any(match.end() == len(name) for match in pattern.finditer(name.strip()))
