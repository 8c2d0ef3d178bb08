"""SHA-256 of model files, cached so that a large file is not read at each start."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from llm.errors import HashMismatch

BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in lower-case hex. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cached_sha256(path: Path, cache: Path, expected: str | None = None) -> str:
    """Return the SHA-256 of a file; it is read only when its size or modification time has changed.

    Digests are kept in ``cache/verified``, one small file for each model file, so that nothing is written beside a
    user's own file. A damaged one is replaced: what is noted is believed only if it is ``expected``. Raises OSError.
    """
    path = path.resolve()
    stat = path.stat()
    key = {"path": str(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    note = cache / "verified" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:24]}.json"
    known = _read_note(note)
    noted = known.get("sha256")
    if known.items() >= key.items() and isinstance(noted, str) and noted == (expected or noted):
        return noted
    digest = sha256_of(path)
    note.parent.mkdir(parents=True, exist_ok=True)
    draft = note.with_name(f"{note.name}.{os.getpid()}")
    draft.write_text(json.dumps({**key, "sha256": digest}), encoding="utf-8")
    draft.replace(note)
    return digest


def _read_note(note: Path) -> dict[str, object]:
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def mismatch(path: Path, expected: str, actual: str) -> HashMismatch:
    """Return the error for a file with the wrong bytes."""
    return HashMismatch(
        f"{path} is not the file it should be: expected SHA-256 {expected}, got {actual}; it is not loaded. "
        f"Delete it and run again to fetch a good one"
    )
