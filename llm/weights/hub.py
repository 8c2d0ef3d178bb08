"""Model files from the Hugging Face hub, taken up again where an earlier run broke off.

Our own GET with a Range header: `huggingface_hub.hf_hub_download` (2.x) drops a partial file when it ends,
and retries an unreachable host for 24 s; a machine that cannot reach the hub must fall through within a few.
"""

from __future__ import annotations

import os
from pathlib import Path

import httpx

from llm.errors import ModelFailure
from llm.weights.catalog import Hub, ModelEntry, ModelFile
from llm.weights.checksum import mismatch, sha256_of
from llm.weights.progress import Progress

# A hub that cannot be connected to in 3 s is not waited for; one that answers may be slow.
TIMEOUT = httpx.Timeout(20.0, connect=3.0)
# A stream that breaks is taken up again this often before this way is given up.
ATTEMPTS = 5


def fetch_from_hub(entry: ModelEntry, scratch: Path, progress: Progress) -> dict[str, Path]:
    """Bring all files of ``entry`` into ``scratch``, verified: catalog path -> local path.

    Honours HF_ENDPOINT and HF_HUB_OFFLINE. Raises ModelFailure when this way does not work (the partial
    file stays and the next run takes it up), HashMismatch when the hub has other bytes (they are removed).
    """
    from huggingface_hub import is_offline_mode

    if entry.hub is None:
        raise ModelFailure("not on the hub")
    if is_offline_mode():
        raise ModelFailure("switched off by HF_HUB_OFFLINE")
    found: dict[str, Path] = {}
    done = 0
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        for file in entry.files:
            partial = scratch / "hub" / f"{file.path}.partial"
            partial.parent.mkdir(parents=True, exist_ok=True)
            _complete(client, entry.hub, file, partial, progress, done)
            got = sha256_of(partial)
            if got != file.sha256:
                partial.unlink()
                raise mismatch(Path(file.path), file.sha256, got)
            found[file.path] = partial
            done += file.size
            progress.note(f"{file.path} is here")
    return found


def _complete(client: httpx.Client, hub: Hub, file: ModelFile, partial: Path, progress: Progress, before: int) -> None:
    """Append to ``partial`` until it has the size of ``file``; ``before`` bytes of other files are done."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(hub.repo, file.path, revision=hub.revision)
    for attempt in range(1, ATTEMPTS + 1):
        have = partial.stat().st_size if partial.exists() else 0
        if have == file.size:
            return
        if have > file.size:
            partial.unlink()
            have = 0
        try:
            _append(client, url, partial, have, progress, before)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ModelFailure(f"not reachable ({error})") from error
        except httpx.HTTPStatusError as error:
            raise ModelFailure(f"answered {error.response.status_code} for {file.path}") from error
        except httpx.HTTPError as error:
            if attempt == ATTEMPTS:
                raise ModelFailure(f"broke off {ATTEMPTS} times at {file.path} ({error!r})") from error
    raise ModelFailure(f"has {file.path} with another size than {file.size} bytes")


def _append(client: httpx.Client, url: str, partial: Path, have: int, progress: Progress, before: int) -> None:
    # `identity`: with a compressed answer the byte counts of Range would not be those of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as answer:
        answer.raise_for_status()
        resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
        done = have if resumed else 0
        with partial.open("ab" if resumed else "wb") as out:
            for block in answer.iter_raw():
                out.write(block)
                done += len(block)
                progress.at(before + done)
            out.flush()
            os.fsync(out.fileno())
