"""`precedent keys`: the named API keys of the server: add, list, rotate, remove, and who did that."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.cli.options import print_status
from agent.core.errors import UsageError

if TYPE_CHECKING:
    from retrieval.store.api_keys import ApiKeys

keys_app = typer.Typer(
    help="Add, list, rotate and remove the named API keys of the server, each with a role; show who did that.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The key's name, such as that of who uses it.")]
ExpiresOption = Annotated[
    str | None, typer.Option("--expires", help="After a span such as 90d, or at a date such as 2027-01-31 (UTC).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="A JSON array.")]


@keys_app.command("add")
def add_key(
    name: NameArgument,
    role: Annotated[
        Literal["read", "judge", "correct", "admin"],
        typer.Option("--role", help="What it may do; each role may do all that those before it may."),
    ],
    rate: Annotated[
        str | None, typer.Option("--rate", help="The most requests to one server process, such as 60/minute. [any]")
    ] = None,
    expires: ExpiresOption = None,
) -> None:
    """Add a key and print it, once: only a hash of it is stored."""
    from agent.core.api_keys import Rate, check_key_name, digest_of, new_key, parse_expiry
    from agent.core.settings import settings

    check_key_name(name)
    keys, key = _open_keys(), new_key()
    is_first = settings().api_key is None and not keys.all()
    until = parse_expiry(expires, datetime.now(UTC)) if expires is not None else None
    limit = str(Rate.parse(rate)) if rate is not None else None
    if not keys.add(name, digest_of(key), role, _user(), limit, until):
        raise UsageError(f"there is a key named {name!r}", f"`precedent keys rotate {name!r}` gives it another key")
    _print_key(name, key)
    if is_first:
        print_status("it is the first key: the server asks for a key from now on")


@keys_app.command("list")
def list_keys(as_json: JsonOption = False) -> None:
    """List the keys with their roles; the keys themselves are not stored."""
    from agent.core.terminal import print_line

    now, rows = datetime.now(UTC), _open_keys().all()
    if as_json:
        shown = ("name", "role", "rate", "created_at", "rotated_at", "previous_until", "expires_at", "last_used_at")
        print(json.dumps([{column: _plain(getattr(key, column)) for column in shown} for key in rows]))
        return
    for key in rows:
        parts = [f"{key.name}: {key.role}"]
        if key.rate:
            parts.append(f"at most {key.rate}")
        parts.append(f"added {key.created_at:%Y-%m-%d}")
        if key.rotated_at:
            parts.append(f"rotated {key.rotated_at:%Y-%m-%d}")
        if key.previous_until and key.previous_until > now:
            parts.append(f"the one before is accepted until {key.previous_until:%Y-%m-%d %H:%M} UTC")
        if key.expires_at:
            state = "expires" if key.expires_at > now else "EXPIRED"
            parts.append(f"{state} {key.expires_at:%Y-%m-%d %H:%M} UTC")
        parts.append(f"last used {key.last_used_at:%Y-%m-%d %H:%M} UTC" if key.last_used_at else "never used")
        print_line(", ".join(parts))
    if not rows:
        print_status("there are no named keys: `precedent keys add NAME --role read` adds one")


@keys_app.command("rotate")
def rotate_key(
    name: NameArgument,
    grace: Annotated[
        str, typer.Option("--grace", help="How long the present key is accepted beside the new one, such as 1h.")
    ] = "0",
    expires: ExpiresOption = None,
) -> None:
    """Replace a key and print the new one, once; it keeps its role, rate and, without --expires, its expiry."""
    from agent.core.api_keys import digest_of, new_key, parse_expiry, parse_span

    now, keys, key = datetime.now(UTC), _open_keys(), new_key()
    span = parse_span(grace)
    present = keys.get(name)
    if present is None:
        raise _unknown(keys, name)
    until = present.expires_at if expires is None else parse_expiry(expires, now)
    if until is not None and until <= now:
        raise UsageError(f"the key {name!r} has expired: name a new time with --expires")
    # a key that has expired is not accepted again by its rotation
    grace_until = min(now + span, present.expires_at or now + span) if span else None
    if not keys.rotate(name, digest_of(key), _user(), grace_until, until):
        raise _unknown(keys, name)
    _print_key(name, key)
    if grace_until is not None and grace_until > now:
        print_status(f"the key before is accepted until {grace_until:%Y-%m-%d %H:%M:%S} UTC")


@keys_app.command("remove")
def remove_key(
    name: NameArgument, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, of the last key.")] = False
) -> None:
    """Remove a key: servers refuse it within seconds."""
    from agent.core.settings import settings

    keys = _open_keys()
    rows = keys.all()
    if [key.name for key in rows] == [name] and settings().api_key is None:
        print_status("without it no key is left: the server asks for none, and whoever reaches it may do everything")
        if not yes:
            typer.confirm(f"remove the last key {name!r}?", abort=True)
    if not keys.remove(name, _user()):
        raise _unknown(keys, name)
    typer.echo(f"the key {name!r} is removed")


@keys_app.command("changes")
def list_changes(as_json: JsonOption = False) -> None:
    """List who added, rotated and removed keys, the oldest first."""
    from agent.core.terminal import print_line

    for_json = list[dict[str, object]]()
    for change in _open_keys().changes():
        if as_json:
            for_json.append({name: _plain(value) for name, value in vars(change).items()})
        else:
            print_line(
                f"{change.changed_at:%Y-%m-%d %H:%M:%S} UTC {change.action}: {change.name}, {change.role}, "
                f"by {change.changed_by}"
            )
    if as_json:
        print(json.dumps(for_json))


def _open_keys() -> ApiKeys:
    from agent.core.settings import settings
    from retrieval.store.api_keys import ApiKeys
    from retrieval.store.engine import open_store

    return ApiKeys(open_store(settings().store_url))


def _unknown(keys: ApiKeys, name: str) -> UsageError:
    known = ", ".join(key.name for key in keys.all())
    return UsageError(f"there is no key named {name!r}; there are: {known or 'none'}")


def _print_key(name: str, key: str) -> None:
    # alone on standard output, for what reads it from there
    typer.echo(key)
    print_status(f"this is the key {name!r}; it is shown this once, keep it now")


def _user() -> str:
    """Who runs the command."""
    try:
        return f"command line, {getpass.getuser()}"
    except (KeyError, OSError):
        # a container may run as a user without a name
        return "command line"


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
