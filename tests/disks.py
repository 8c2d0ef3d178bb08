"""Disks that are full, and folders that are read-only: real ones, mounted for a test."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import missing

_BLOCK = 4_096


class SmallDisk:
    """A file system of few bytes at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Write until there is no room for another byte."""
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            with contextlib.suppress(OSError):
                while True:
                    os.write(descriptor, bytes(_BLOCK))
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink()


def _mount(*arguments: str) -> bool:
    for command in (["mount", *arguments], ["sudo", "-n", "mount", *arguments]):
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return True
    return False


def _unmount(folder: Path) -> None:
    for command in (["umount", "-l", str(folder)], ["sudo", "-n", "umount", "-l", str(folder)]):
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A disk of that size, mounted at the folder; skips where nothing may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=1777", "tmpfs", str(folder)):
        missing("mounts", "nothing can be mounted here: it takes root, or sudo without a password")
    try:
        yield SmallDisk(folder)
    finally:
        _unmount(folder)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """The folder where nothing can be written to it, not by root either."""
    view = folder.with_name(folder.name + "-read-only")
    view.mkdir()
    if not _mount("--bind", str(folder), str(view)):
        missing("mounts", "nothing can be mounted here: it takes root, or sudo without a password")
    try:
        assert _mount("-o", "remount,bind,ro", str(view))
        yield view
    finally:
        _unmount(view)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 24 MB."""
    with small_disk(tmp_path / "disk", 24) as made:
        yield made
