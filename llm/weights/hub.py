"""Model files from the Hugging Face hub; an interrupted download is resumed.

This is a GET with a Range header, as `huggingface_hub.hf_hub_download` (2.x) drops a partial file and retries an
unreachable host for 24 s; a machine that cannot reach the hub must try the next source within seconds.
"""

from __future__ import annotations

from pathlib import Path

import httpx

from llm.errors import ModelFailure
from llm.weights.catalog import Hub, ModelEntry, ModelFile
from llm.weights.checksum import mismatch, sha256_of
from llm.weights.download import TIMEOUT, download
from llm.weights.progress import DownloadProgress


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
    """Download a file to ``partial``; ``before`` is the number of bytes of earlier files."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(hub.repo, file.path, revision=hub.revision)
    download(
        client, url, partial, size=file.size, name=file.path, progress=lambda done, _: progress.update(before + done)
    )
