"""Files by HTTP; an interrupted download is resumed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import httpx

from llm.errors import ModelFailure

TIMEOUT = httpx.Timeout(20.0, connect=3.0)
# How often a broken stream is resumed.
ATTEMPTS = 5


def download(
    client: httpx.Client,
    url: str,
    partial: Path,
    *,
    size: int | None,
    name: str,
    progress: Callable[[int, int | None], None],
) -> None:
    """Append to ``partial`` until the file is complete.

    Parameters
    ----------
    client
        What sends the requests.
    url
        The address of the file.
    partial
        Where it is written to; what is there is taken for its beginning. Without a ``size``, that is only done when
        the server confirms by the entity tag, which is kept beside it, that the file is still the same.
    size
        Its size in bytes, if that is known.
    name
        What messages call it.
    progress
        Gets the number of bytes that are there, and their total where it is known.

    Raises
    ------
    ModelFailure
        The server cannot be reached, refuses, breaks off again and again, or has a file of another size.
    """
    for attempt in range(1, ATTEMPTS + 1):
        have = partial.stat().st_size if partial.exists() else 0
        if size is not None and have == size:
            return
        if size is not None and have > size:
            partial.unlink()
            have = 0
        try:
            total = _append(client, url, partial, have, size is not None, progress)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ModelFailure(f"not reachable ({error})") from error
        except httpx.HTTPStatusError as error:
            raise ModelFailure(f"answered {error.response.status_code} for {name}") from error
        except httpx.HTTPError as error:
            if attempt == ATTEMPTS:
                raise ModelFailure(f"broke off {ATTEMPTS} times at {name} ({error!r})") from error
            continue
        if size is None and (total is None or partial.stat().st_size == total):
            _tag_of(partial).unlink(missing_ok=True)
            return
    if size is None:
        raise ModelFailure(f"the size of {name} is not the announced one")
    raise ModelFailure(f"the size of {name} on the hub is not {size} bytes")


def _tag_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.etag")


def _append(
    client: httpx.Client,
    url: str,
    partial: Path,
    have: int,
    known_size: bool,
    progress: Callable[[int, int | None], None],
) -> int | None:
    """Read one reply to its end; return the size of the whole file if the server announces it."""
    tag = _tag_of(partial)
    # The byte counts of Range are not those of a compressed reply.
    headers = {"Accept-Encoding": "identity"}
    if have and known_size:
        headers["Range"] = f"bytes={have}-"
    elif have and tag.exists():
        headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text(encoding="utf-8")}
    with client.stream("GET", url, headers=headers) as reply:
        if reply.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and not known_size:
            # all of it is there already, or it is another file now: read it from its beginning
            partial.unlink()
            raise httpx.ReadError("the range is not available")
        reply.raise_for_status()
        resumed = reply.status_code == httpx.codes.PARTIAL_CONTENT
        before = have if resumed else 0
        length = reply.headers.get("Content-Length", "")
        total = before + int(length) if length.isdecimal() else None
        if not known_size and not resumed:
            entity = reply.headers.get("ETag", "")
            if entity and not entity.startswith("W/"):
                tag.write_text(entity, encoding="utf-8")
            else:
                tag.unlink(missing_ok=True)
        with partial.open("ab" if resumed else "wb") as out:
            for block in reply.iter_raw():
                out.write(block)
                progress(out.tell(), total)
            out.flush()
            os.fsync(out.fileno())
    return total
