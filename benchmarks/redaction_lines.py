"""Lines with and without secrets and personal data, made here: nothing in them is anybody's.

Two makers that share no code for the values or the lines. The rules of `retrieval.text.redaction` were written beside
the first one; the second one (`benchmarks.redaction_held_out`) is made of what services' documentation prints, and of
what looks alike and is nothing.
"""

from __future__ import annotations

import base64
import json
import string
import uuid
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from retrieval.text.redaction_numbers import IBAN_LENGTHS, is_luhn

_WORDS = ["summer", "copper", "falcon", "ladder", "velvet", "orbit", "maple", "tunnel", "harbor", "wizard", "pepper"]
_NAMES = ["ann", "bob", "carla", "dmitri", "eva", "farid", "greta", "hugo", "ines", "jonas"]
_HOSTS = ["db01", "cache-2", "web.internal", "mail.example.org", "api.example.com", "node7"]
_TEXT, _HEX = string.ascii_letters + string.digits, "0123456789abcdef"


class Line(NamedTuple):
    """A line, and the values in it that must go, with their kinds."""

    text: str
    values: tuple[tuple[str, str], ...] = ()


def _chars(random: Random, count: int, of: str = _TEXT) -> str:
    return "".join(random.choices(of, k=count))


def _mixed(random: Random, count: int) -> str:
    """Random characters among which are a capital, a small letter and a digit."""
    made = [*random.choices(_TEXT, k=count - 3), random.choice("ABC"), random.choice("xyz"), random.choice("123")]
    random.shuffle(made)
    return "".join(made)


def _encoded(part: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def card_number(random: Random) -> str:
    """A number of a card with a right check digit."""
    prefix, length = random.choice(
        [("4", 16), ("5" + random.choice("12345"), 16), ("37", 15), ("6011", 16), ("36", 14)]
    )
    body = prefix + _chars(random, length - 1 - len(prefix), string.digits)
    return next(body + digit for digit in string.digits if is_luhn(body + digit))


def iban_number(random: Random) -> str:
    """An IBAN with right check digits."""
    country = random.choice([name for name in IBAN_LENGTHS if name not in ("MT", "LC", "SC", "RU")])
    body = _chars(random, IBAN_LENGTHS[country] - 4, string.digits)
    check = 98 - int("".join(str(int(char, 36)) for char in f"{body}{country}00")) % 97
    return f"{country}{check:02}{body}"


def _password(random: Random) -> str:
    word = random.choice(_WORDS)
    kinds = (
        lambda: word + str(random.randrange(10, 9999)),
        lambda: word.capitalize() + random.choice("!$%#*") + str(random.randrange(99)),
        lambda: _chars(random, random.randrange(8, 20), _TEXT + "!#%*+-_"),
        lambda: word + random.choice(_WORDS),
    )
    return random.choice(kinds)().strip("-_!.")


def _of_secret(random: Random) -> Line:
    secret = _password(random)
    name = random.choice(
        ["password", "passwd", "pwd", "db_password", "DB_PASSWORD", "userPassword", "passphrase", "api_key", "apiKey"]
    )
    user = random.choice(_NAMES)
    forms = (
        f"connect user={user} {name}={secret} host={random.choice(_HOSTS)}",
        f"{random.randrange(10**6)} DEBUG config loaded: {name}: {secret}",
        json.dumps({"user": user, name: secret, "retries": random.randrange(9)}),
        json.dumps({"message": json.dumps({name: secret, "id": random.randrange(99)})}),
        f"GET /login?user={user}&{name}={secret}&next=/home HTTP/1.1 200",
        f"env {name.upper()}='{secret}' started worker {random.randrange(50)}",
        f'{{:{name} => "{secret}", :user => "{user}"}}',
        f"exec: mysqldump -u {user} --password {secret} --all-databases",
        f"the new {name} is {secret} for account {user}",
        f"opening postgres://{user}:{secret}@{random.choice(_HOSTS)}:5432/app",
        f"<login><user>{user}</user><password>{secret}</password></login>",
        f"cannot parse '{name} = {secret}' in line {random.randrange(400)}",
    )
    return Line(random.choice(forms), ((secret, "secret"),))


def _of_token(random: Random) -> Line:
    token = random.choice(
        (
            "AKIA" + _chars(random, 16, string.ascii_uppercase + "234567"),
            "ghp_" + _mixed(random, 36),
            "glpat-" + _mixed(random, 20),
            f"xoxb-{random.randrange(10**11)}-{_mixed(random, 24)}",
            "sk_live_" + _mixed(random, 24),
            "AIza" + _mixed(random, 35),
            "sk-" + _mixed(random, 48),
            "hf_" + _mixed(random, 34),
            "npm_" + _mixed(random, 36),
            f"SG.{_mixed(random, 22)}.{_mixed(random, 43)}",
            f"{_encoded({'alg': 'HS256'})}.{_encoded({'sub': random.randrange(10**6)})}.{_mixed(random, 43)}",
        )
    )  # fmt: skip
    forms = (
        f"request failed with key {token} (status 401)",
        f"Authorization: Bearer {token}",
        f"push rejected for https://{token}@example.com/repo.git",
        f"[{random.choice(_HOSTS)}] using token {token}.",
        f"export TOKEN={token}",
    )
    return Line(random.choice(forms), ((token, "secret"),))


def _of_header(random: Random) -> Line:
    secret = _mixed(random, random.randrange(16, 40))
    basic = base64.b64encode(f"{random.choice(_NAMES)}:{_password(random)}".encode()).decode()
    forms = (
        (f"> Authorization: Basic {basic}", basic),
        (f"headers={{'Authorization': 'Bearer {secret}', 'Accept': '*/*'}}", secret),
        (f"Cookie: theme=dark; JSESSIONID={secret}; lang=en", secret),
        (f"Set-Cookie: sessionid={secret}; Path=/; HttpOnly", secret),
        (f"X-Api-Key: {secret}", secret),
        (f"session_id={secret} user logged in", secret),
    )
    text, value = random.choice(forms)
    return Line(text, ((value, "secret"),))


def _of_key(random: Random) -> Line:
    body = [_mixed(random, 64) for _ in range(3)] + [_mixed(random, 30) + "=="]
    between = random.choice(["\n", "\\n"])
    kind = random.choice(["RSA ", "EC ", "", "OPENSSH "])
    text = between.join([f"-----BEGIN {kind}PRIVATE KEY-----", *body, f"-----END {kind}PRIVATE KEY-----"])
    return Line(f"loaded {text} from vault", tuple((line, "secret") for line in body[:1]))


def _of_card(random: Random) -> Line:
    number = card_number(random)
    if len(number) == 16:
        written = random.choice([number, *(sign.join(number[i : i + 4] for i in range(0, 16, 4)) for sign in " -")])
    else:
        written = random.choice([number, f"{number[:4]} {number[4:10]} {number[10:]}"])
    forms = (
        f"payment of {random.randrange(999)}.{random.randrange(10, 99)} EUR by card {written} declined",
        f'{{"pan": "{written}", "exp": "12/29"}}',
        f"pan={written}&cvv={random.randrange(100, 999)}",
        f"{written} charged",
    )
    return Line(random.choice(forms), ((written, "card"),))


def _of_iban(random: Random) -> Line:
    number = iban_number(random)
    written = random.choice([number, " ".join(number[i : i + 4] for i in range(0, len(number), 4)), number.lower()])
    forms = (
        f"transfer to {written} booked",
        f"iban={written}",
        f"Beneficiary: {written}, amount {random.randrange(9999)}",
    )
    return Line(random.choice(forms), ((written, "iban"),))


def _of_mail(random: Random) -> Line:
    local = random.choice(
        [
            random.choice(_NAMES),
            f"{random.choice(_NAMES)}.{random.choice(_WORDS)}",
            f"{random.choice(_NAMES)}+tag{random.randrange(99)}",
        ]
    )
    mail = f"{local}@{random.choice(_WORDS)}.{random.choice(['com', 'org', 'co.uk', 'de', 'example.net'])}"
    forms = (
        f"mail from <{mail}> rejected: greylisted",
        f"user {mail} logged in from 10.0.{random.randrange(255)}.{random.randrange(255)}",
        f'{{"email":"{mail}"}}',
        f"GET /u?mail={mail.replace('@', '%40')} 200",
        f"sent to {mail}.",
        f"to=<{mail}>, relay={random.choice(_HOSTS)}, delay=0.4",
    )
    text = random.choice(forms)
    return Line(text, ((mail.replace("@", "%40") if "%40" in text else mail, "email"),))


def _of_phone(random: Random) -> Line:
    area, middle, last = random.randrange(201, 989), random.randrange(220, 989), random.randrange(1000, 9999)
    area, middle = (number + 1 if number % 100 == 11 else number for number in (area, middle))
    forms = (
        (f"call from +49 {random.randrange(151, 179)} {random.randrange(10**6, 10**7)} missed", None),
        (f"SMS to +44{random.randrange(7 * 10**9, 8 * 10**9)} sent", None),
        (f"customer ({area}) {middle}-{last} opened a ticket", f"({area}) {middle}-{last}"),
        (f"contact: {area}-{middle}-{last}", f"{area}-{middle}-{last}"),
        (f"phone=0{random.randrange(30, 89)}{random.randrange(10**6, 10**7)}", None),
        (f"Tel.: 0{random.randrange(30, 89)} / {random.randrange(10**6, 10**7)}", None),
    )
    text, value = random.choice(forms)
    if value is None:
        start = min(place for place in (text.find("+"), text.find("0")) if place >= 0)
        value = text[start:].removesuffix(" missed").removesuffix(" sent")
    return Line(text, ((value, "phone"),))


def _plain(random: Random) -> Line:
    n, host, user = random.randrange(10**6), random.choice(_HOSTS), random.choice(_NAMES)
    forms: tuple[Callable[[], str], ...] = (
        lambda: f"Failed password for {user} from 10.1.{n % 255}.7 port {n % 65535} ssh2",
        lambda: f"Received block blk_-{random.randrange(10**18, 9 * 10**18)} of size {n} from /10.250.10.6",
        lambda: f"blk_{random.randrange(10**18, 9 * 10**18)} replicated",
        lambda: f"request {uuid.UUID(int=random.getrandbits(128), version=4)} done in {n} ms",
        lambda: f"commit {_chars(random, 40, _HEX)} by {user}",
        lambda: f"sha256:{_chars(random, 64, _HEX)} pulled",
        lambda: f"ts={1_600_000_000_000 + n} level=info msg=ok",
        lambda: f"2026-0{n % 9 + 1}-1{n % 9} 03:04:0{n % 9},{n % 999:03} version 2.{n % 50}.{n % 9} at 0x{n:016x}",
        lambda: f"logo@2x.png served in {n} us",
        lambda: f"/var/log/{user}/app-{n}.log rotated, {n} bytes free",
        lambda: f"password for {user} expired; token: identifier expected",
        lambda: f"pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={host}",
        lambda: f"systemd: user@{n % 2000}.service: Succeeded.",
        lambda: f"order {n}-{n * 7} weighs {n}.{n % 99} kg, offset +0200",
        lambda: f"max_tokens={n} password_length={n % 30} session opened for user {user}",
        lambda: f'id={_chars(random, 24, _HEX)} etag="{_chars(random, 32, _HEX)}" cache hit',
        lambda: f"root@{host}:~# uptime {n}",
        lambda: f"mac 02:42:ac:11:00:{n % 90 + 10} joined br-{_chars(random, 12, _HEX)}",
        lambda: f"user id {random.randrange(10**9, 10**10)} session {n} closed, pass=3 fail=0",
        lambda: f"kernel: [{n}.{n % 999999:06}] usb 1-1: new device, serial {_chars(random, 12, string.digits)}",
    )
    return Line(random.choice(forms)())


_MAKERS = (_of_secret, _of_token, _of_header, _of_key, _of_card, _of_iban, _of_mail, _of_phone)


def first(seed: int, count: int) -> list[Line]:
    """Lines of the first maker, half of which hold something."""
    random = Random(seed)
    return [random.choice(_MAKERS)(random) if random.random() < 0.5 else _plain(random) for _ in range(count)]
