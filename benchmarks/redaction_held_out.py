"""The second maker of lines for `benchmarks.redaction`: forms from documentation of services, and what looks alike."""

from __future__ import annotations

import string
from collections.abc import Callable
from random import Random

from benchmarks.redaction_lines import Line, card_number, iban_number

_UPPER = string.ascii_uppercase + string.digits
_URL_SAFE = string.ascii_letters + string.digits + "-_"
_PEOPLE = ["Müller", "O'Neill", "Łukasz", "García", "Nakamura", "van.Dyk", "mary_jane"]
_SERVICES = ["billing", "gateway-3", "kafka-broker", "ingest", "scheduler"]

# "{s}" is where a secret goes: what it is made of, and the text around it
_SECRETS: tuple[tuple[Callable[[Random], str], str], ...] = (
    # Twilio, Slack, Discord, Telegram, Azure, Google OAuth, Shopify, DigitalOcean, PyPI, Vault, GitHub fine-grained
    (lambda r: "SK" + _of(r, 32, "0123456789abcdef"), "twilio client {s} created"),
    (
        lambda r: f"https://hooks.slack.com/services/T{_of(r, 8, _UPPER)}/B{_of(r, 8, _UPPER)}/{_of(r, 24)}",
        "POST {s} 200",
    ),
    (lambda r: f"{r.randrange(10**8, 10**10)}:AA{_of(r, 33, _URL_SAFE)}", "GET /bot{s}/getMe"),
    (
        lambda r: _of(r, 86, string.ascii_letters + string.digits) + "==",
        "DefaultEndpointsProtocol=https;AccountName=logs;AccountKey={s};EndpointSuffix=core.windows.net",
    ),
    (lambda r: "ya29." + _of(r, 60, _URL_SAFE) + "x", "oauth refresh gave {s} for ingest"),
    (lambda r: "shpat_" + _of(r, 32, "0123456789abcdef"), "X-Shopify-Access-Token: {s}"),
    (lambda r: "dop_v1_" + _of(r, 64, "0123456789abcdef"), "doctl auth init -t {s}"),
    (lambda r: "pypi-AgEIcHlwaS5vcmc" + _of(r, 70, _URL_SAFE) + "x", "twine upload -u __token__ -p {s}"),
    (lambda r: "hvs." + _of(r, 24) + "x", "VAULT_TOKEN={s} vault read kv/app"),
    (lambda r: f"github_pat_{_of(r, 22)}_{_of(r, 59)}", "git clone https://oauth2:{s}@github.com/acme/app.git"),
    (lambda r: "sk-ant-api03-" + _of(r, 93, _URL_SAFE) + "AA", "x-api-key: {s}"),
    # a service that no rule knows
    (lambda r: f"acme_prod_{_mixed(r, 40)}", "initialised client with {s}"),
    # .NET, JDBC, ODBC, libpq, Redis, Spring, Kubernetes, Terraform, curl, LDAP, SMTP dialogue
    (lambda r: _word(r), "Server=tcp:db;Database=x;User Id=sa;Password={s};Encrypt=true"),
    (lambda r: _word(r), "jdbc:mysql://db:3306/x?user=app&password={s}&useSSL=false"),
    (lambda r: _word(r), "DSN=warehouse;UID=etl;PWD={s}"),
    (lambda r: _word(r), "redis://:{s}@cache:6379/0 refused"),
    (lambda r: _word(r), "spring.datasource.password={s}"),
    (lambda r: _word(r), "amqp://svc:{s}@mq.acme.internal//"),
    (lambda r: _word(r), "curl -sS -u deploy:{s} https://ci.acme.internal/job"),
    (lambda r: _word(r), "ALTER USER app IDENTIFIED BY '{s}'"),
    (lambda r: _word(r), "CREATE ROLE app LOGIN PASSWORD '{s}'"),
    (lambda r: _word(r), "sshpass -p {s} scp a b"),
    (lambda r: _word(r), 'level=debug msg="login" passwd="{s}" code=7'),
    (lambda r: _word(r), "{{'username': 'app', 'password': '{s}'}}"),
    (lambda r: _word(r), '<add key="x"/><Password>{s}</Password>'),
    (lambda r: _word(r), "Passwort: {s}"),
    (lambda r: _word(r), "--admin-password={s} --verbose"),
    (lambda r: _mixed(r, 40), "aws_secret_access_key = {s}"),
    (lambda r: _mixed(r, 32), "refresh_token={s}&grant_type=refresh_token"),
    (lambda r: _mixed(r, 26), "Cookie: PHPSESSID={s}"),
    (lambda r: _mixed(r, 43), "wss connect ?access_token={s}"),
    (lambda r: _mixed(r, 44), "...&sv=2022-11-02&sig={s}"),
    (lambda r: _mixed(r, 24), 'clientSecret: "{s}",'),
    (lambda r: _mixed(r, 24), "private_key='{s}'"),
)
_PERSONAL: tuple[tuple[str, Callable[[Random], str], str], ...] = (
    ("card", lambda r: card_number(r), "Kreditkarte {s} abgelehnt"),
    ("card", lambda r: card_number(r), "auth;{s};000;OK"),
    ("card", lambda r: card_number(r), "stripe.charge(number={s})"),
    ("card", lambda r: card_number(r), '"card_number":{s},'),
    ("iban", lambda r: iban_number(r), "SEPA mandate for {s}: signed"),
    ("iban", lambda r: _spaced(iban_number(r)), "IBAN {s} (BIC COBADEFF)"),
    ("email", lambda r: f"{r.choice(_PEOPLE)}@acme-corp.io", "Reply-To: {s}"),
    ("email", lambda r: f"{r.choice(_PEOPLE)}{r.randrange(99)}@mail.bücher.example", "invite {s}; role=viewer"),
    ("email", lambda r: f"x{r.randrange(10**6)}@163.com", "RCPT TO:<{s}> 550"),
    ("email", lambda r: f"{r.choice('abcdef')}@sub.host.museum", "owner='{s}'"),
    (
        "phone",
        lambda r: f"+33 {r.randrange(1, 9)} " + " ".join(str(r.randrange(10, 99)) for _ in range(4)),
        "voicemail from {s}",
    ),
    ("phone", lambda r: f"+1-{r.randrange(212, 299)}-{r.randrange(333, 399)}-{r.randrange(1000, 9999)}", "dialing {s}"),
    ("phone", lambda r: f"+91{r.randrange(7 * 10**9, 10**10)}", "otp sent to {s}"),
    ("phone", lambda r: f"{r.randrange(10**9, 10**10)}", '"mobile":"{s}"'),
    ("phone", lambda r: f"{r.randrange(212, 299)}.{r.randrange(333, 399)}.{r.randrange(1000, 9999)}", "callback {s}"),
)
_NOTHING: tuple[Callable[[Random], str], ...] = (
    lambda r: f"trace_id={_of(r, 32, '0123456789abcdef')} span_id={_of(r, 16, '0123456789abcdef')}",
    lambda r: f"x-request-id: {_of(r, 20)}",
    lambda r: f"object {_of(r, 24, '0123456789abcdef')} missing in bucket",
    lambda r: f"arn:aws:s3:::logs-{r.randrange(10**11, 10**12)}/2026/01",
    lambda r: (
        f"kube pod {r.choice(_SERVICES)}-{_of(r, 10, string.ascii_lowercase)}-{_of(r, 5, 'bcdfghjklmnpqrstvwxz')} gone"
    ),
    lambda r: f"invalid password: user {r.choice(_SERVICES)} not found",
    lambda r: f'password authentication failed for user "{r.choice(_SERVICES)}"',
    lambda r: 'secret "tls-cert" not found in namespace default',
    lambda r: f"Token expired at {r.randrange(10**9, 10**10)}; session timeout={r.randrange(3600)}",
    lambda r: f"nanos={r.randrange(10**18, 19 * 10**17)} seq={r.randrange(10**12, 10**13)}",
    lambda r: f"SyntaxError: Unexpected token: '{r.choice('{}();')}' at line {r.randrange(99)}",
    lambda r: "PWD=/srv/app OLDPWD=/ SHELL=/bin/sh",
    lambda r: f"S-1-5-21-{r.randrange(10**9)}-{r.randrange(10**9)}-{r.randrange(10**9)}-1001 sid=S-1-5-18",
    lambda r: f"npm http fetch GET 200 https://registry/{r.choice(_SERVICES)}/-/lodash@4.17.{r.randrange(30)}.tgz",
    lambda r: "Accepted publickey for deploy from 10.0.0.3 port 4022 ssh2: RSA SHA256:" + _of(r, 43),
    lambda r: f"cpu 4 16 {r.randrange(1000, 9999)} {r.randrange(1000, 9999)} {r.randrange(1000, 9999)} 0 0",
    lambda r: f"getty@tty{r.randrange(9)}.service: main process exited",
    lambda r: f"git@github.com:acme/{r.choice(_SERVICES)}.git fetched",
    lambda r: f"temperature 23.{r.randrange(10**14, 10**15)} humidity -{r.randrange(10**15, 10**16)}",
    lambda r: f"std::vector<int> a::b::c at lib.so.{r.randrange(9)}.{r.randrange(9)}",
    lambda r: "key=value; foreign key constraint fails; primary key: (id)",
    lambda r: f"GET /static/js/app.{_of(r, 20, '0123456789abcdef')}.js 304 {r.randrange(9999)}",
    lambda r: f"ISBN 978-{r.randrange(10)}-{r.randrange(10**4, 10**5)}-{r.randrange(100, 999)}-{r.randrange(9)} sold",
    lambda r: "the password must contain 8 characters; your password is too short",
    lambda r: f"credentials: none; auth=PLAIN; cookies enabled; pin {r.randrange(40)} high",
    lambda r: f"docker run -e LOG_LEVEL=debug image@sha256:{_of(r, 64, '0123456789abcdef')}",
)


def _of(random: Random, count: int, chars: str = string.ascii_letters + string.digits) -> str:
    return "".join(random.choices(chars, k=count))


def _mixed(random: Random, count: int) -> str:
    return "aZ9" + _of(random, count - 3)


def _word(random: Random) -> str:
    return random.choice(("Tr0ub4dor&3x", "correcthorse", "P@ssw0rd", "qwertz", "N0v3mber!", "s3cr3t-"))[
        : random.randrange(6, 13)
    ] + _of(random, 2)


def _spaced(number: str) -> str:
    return " ".join(number[place : place + 4] for place in range(0, len(number), 4))


def held_out(seed: int, count: int) -> list[Line]:
    """Lines of the second maker, half of which hold something."""
    random, lines = Random(seed), list[Line]()
    for _ in range(count):
        prefix = random.choice(("", f"{random.choice(_SERVICES)}: ", "[INFO] ", "2026-03-04T05:06:07Z "))
        if random.random() < 0.5:
            lines.append(Line(prefix + random.choice(_NOTHING)(random)))
        elif random.random() < 0.55:
            make, text = random.choice(_SECRETS)
            value = make(random)
            shown = value.partition("hooks.")[2] if "hooks." in value else value
            lines.append(Line(prefix + text.format(s=value), ((shown, "secret"),)))
        else:
            kind, make, text = random.choice(_PERSONAL)
            value = make(random)
            lines.append(Line(prefix + text.replace("{s}", value), ((value, kind),)))
    return lines
