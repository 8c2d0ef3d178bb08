"""Is this file the one it is said to be? SHA-256, remembered so that a large file is not read at each start."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from llm.errors import HashMismatch

BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in lower-case hex, read in blocks; raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cached_sha256(path: Path, cache: Path) -> str:
    """SHA-256 of ``path``, from the note of an earlier reading while size and modification time are the same.

    Notes live in ``cache/verified``, one small file for each model file, so that nothing is written beside
    a file that the user keeps elsewhere. A damaged note counts as none.
    """
    path = path.resolve()
    stat = path.stat()
    facts = {"path": str(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    note = cache / "verified" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:24]}.json"
    known = _read_note(note)
    if known is not None and {key: known.get(key) for key in facts} == facts:
        return str(known["sha256"])
    digest = sha256_of(path)
    note.parent.mkdir(parents=True, exist_ok=True)
    draft = note.with_name(f"{note.name}.{os.getpid()}")
    draft.write_text(json.dumps({**facts, "sha256": digest}), encoding="utf-8")
    draft.replace(note)
    return digest


def _read_note(note: Path) -> dict[str, object] | None:
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return known if isinstance(known, dict) and isinstance(known.get("sha256"), str) else None


def mismatch(path: Path, expected: str, got: str) -> HashMismatch:
    """The error for a file with the wrong bytes: names the file, both hashes, and what to do."""
    return HashMismatch(
        f"{path} is not the file it should be: expected SHA-256 {expected}, got {got}; it is not loaded. "
        f"Delete it and run again to fetch a good one"
    )
