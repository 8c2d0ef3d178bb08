"""Model files from the Hugging Face hub; an interrupted download is resumed.

This is a GET with a Range header, as `huggingface_hub.hf_hub_download` (2.x) drops a partial file and retries an
unreachable host for 24 s; a machine that cannot reach the hub must try the next source within seconds.
"""

from __future__ import annotations

import os
from pathlib import Path

import httpx

from llm.errors import ModelFailure
from llm.weights.catalog import Hub, ModelEntry, ModelFile
from llm.weights.checksum import mismatch, sha256_of
from llm.weights.progress import DownloadProgress

TIMEOUT = httpx.Timeout(20.0, connect=3.0)
# How often a broken stream is resumed.
ATTEMPTS = 5


def fetch_from_hub(entry: ModelEntry, scratch: Path, progress: DownloadProgress) -> dict[str, Path]:
    """Download all files of a model to ``scratch``; return the verified files by their paths in the catalog.

    HF_ENDPOINT and HF_HUB_OFFLINE are respected. Raises ModelFailure when the hub cannot be used (the next run resumes
    a partial file), HashMismatch when it has other bytes (they are removed).
    """
    from huggingface_hub import is_offline_mode

    if entry.hub is None:
        raise ModelFailure("not on the hub")
    if is_offline_mode():
        raise ModelFailure("switched off by HF_HUB_OFFLINE")
    downloaded: dict[str, Path] = {}
    done = 0
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        for file in entry.files:
            partial = scratch / "hub" / f"{file.path}.partial"
            partial.parent.mkdir(parents=True, exist_ok=True)
            _download(client, entry.hub, file, partial, progress, done)
            actual = sha256_of(partial)
            if actual != file.sha256:
                partial.unlink()
                raise mismatch(Path(file.path), file.sha256, actual)
            downloaded[file.path] = partial
            done += file.size
            progress.note(f"{file.path} is complete")
    return downloaded


def _download(
    client: httpx.Client, hub: Hub, file: ModelFile, partial: Path, progress: DownloadProgress, before: int
) -> None:
    """Append to ``partial`` until it has the size of ``file``; ``before`` is the number of bytes of earlier files."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(hub.repo, file.path, revision=hub.revision)
    for attempt in range(1, ATTEMPTS + 1):
        size = partial.stat().st_size if partial.exists() else 0
        if size == file.size:
            return
        if size > file.size:
            partial.unlink()
            size = 0
        try:
            _append(client, url, partial, size, progress, before)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ModelFailure(f"not reachable ({error})") from error
        except httpx.HTTPStatusError as error:
            raise ModelFailure(f"answered {error.response.status_code} for {file.path}") from error
        except httpx.HTTPError as error:
            if attempt == ATTEMPTS:
                raise ModelFailure(f"broke off {ATTEMPTS} times at {file.path} ({error!r})") from error
    raise ModelFailure(f"the size of {file.path} on the hub is not {file.size} bytes")


def _append(client: httpx.Client, url: str, partial: Path, size: int, progress: DownloadProgress, before: int) -> None:
    # The byte counts of Range are not those of a compressed reply.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={size}-"} if size else {})
    with client.stream("GET", url, headers=headers) as reply:
        reply.raise_for_status()
        resumed = reply.status_code == httpx.codes.PARTIAL_CONTENT
        with partial.open("ab" if resumed else "wb") as out:
            for block in reply.iter_raw():
                out.write(block)
                progress.update(before + out.tell())
            out.flush()
            os.fsync(out.fileno())
