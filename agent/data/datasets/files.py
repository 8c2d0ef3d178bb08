"""The files of a data set: in a folder, in a zip or tar archive, packed or not. Nothing is unpacked to disk."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import zstandard

from agent.core.errors import InputError
from agent.core.records import clean_text
from agent.data.datasets.catalog import DatasetEntry, Layout
from agent.data.packed import READ_ERRORS
from agent.data.readers.csv_rows import LONGEST_LINE
from agent.data.readers.lines import RawLine, split_lines

_CHUNK = 1 << 18
_NAMES_LISTED = 8
_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_PACKED = re.compile(r"\.(gz|zst|bz2|xz)$", re.IGNORECASE)
_DAMAGE = (
    *READ_ERRORS,
    zipfile.BadZipFile,
    tarfile.TarError,
    # an encrypted member, an unknown compression of a zip
    RuntimeError,
)


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a data set.

    Parameters
    ----------
    path
        Its path, from the name of the folder or archive on, without the ending of its packing.
    root
        The file on disk: itself, or the archive.
    """

    path: str
    root: Path
    _open: Callable[[], IO[bytes]]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return self.path.rpartition("/")[0].rpartition("/")[2]

    def chunks(self) -> Iterator[bytes]:
        """The unpacked bytes.

        Raises
        ------
        InputError
            They cannot be read, or not to the end.
        """
        try:
            with ExitStack() as stack:
                stream = _unpacked(stack.enter_context(self._open()))
                while chunk := stream.read(_CHUNK):
                    yield chunk
        except _DAMAGE as error:
            raise InputError(f"cannot be read to its end: {error}", self.path) from error

    def read(self) -> bytes:
        """All bytes; see `chunks`."""
        return b"".join(self.chunks())

    def lines(self) -> Iterator[RawLine]:
        """The lines in UTF-8: one that is not is read as Windows-1252."""
        for line in split_lines(self.chunks(), LONGEST_LINE):
            try:
                line.data.decode("utf-8")
            except UnicodeDecodeError:
                yield RawLine(line.number, decode_text(line.data).encode("utf-8", "replace"), line.cut)
            else:
                yield line


def _unpacked(stream: IO[bytes]) -> IO[bytes]:
    """The stream without its packing, by its first bytes."""
    # files, and members of zip and tar archives, are all buffered
    head = cast("io.BufferedReader", stream).peek(6)
    if head.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    if head.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.BZ2File(stream))
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast("IO[bytes]", lzma.LZMAFile(stream))
    return stream


def decode_text(data: bytes) -> str:
    """Bytes as text: UTF-8 or else Windows-1252, which the older public sets are in."""
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    return clean_text(text)


class DatasetFiles:
    """A context manager that finds the files of a data set under a path.

    Parameters
    ----------
    path
        A file, an archive or a folder; in a folder, archives are looked into when its own files do not do.

    Raises
    ------
    InputError
        There is no such path, or an archive cannot be read.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise InputError("no such file or folder", str(path))
        self.path = path.absolute()
        self._stack = ExitStack()
        self._archives: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def find(self, entry: DatasetEntry) -> tuple[Layout, dict[str, list[Member]]]:
        """The layout that the files have, and the files by their role.

        Raises
        ------
        InputError
            They have none of the known layouts.
        """
        plain = self._members()
        found = _match(entry, plain)
        if found is None and self._archives:
            inside = [member for archive in self._archives for member in self._in_archive(archive)]
            found = _match(entry, [*plain, *inside])
            plain += inside
        first = entry.layouts[0]
        if found is None and len(plain) == 1 and first.takes_any_name and not self.path.is_dir():
            # one file by another name: whether it has the layout, its loader finds out
            found = first, {"all": plain}
        if found is not None and not _missing_roles(*found):
            return found
        expected = "; or ".join(layout.about for layout in entry.layouts)
        missing = f"without {' and '.join(_missing_roles(*found))}" if found is not None else "none of its files"
        names = ", ".join(member.path for member in plain[:_NAMES_LISTED]) or "nothing"
        more = f" and {len(plain) - _NAMES_LISTED:,} more" if len(plain) > _NAMES_LISTED else ""
        raise InputError(f"{missing}: expected {expected}; found {names}{more}", str(self.path), hint=entry.get)

    def _members(self) -> list[Member]:
        if not self.path.is_dir():
            return self._of_file(self.path)
        files = sorted((file for file in self.path.rglob("*") if file.is_file()), key=_natural)
        self._archives = [file for file in files if _is_archive(file)]
        above = self.path.parent
        return [_plain_member(file, above) for file in files if not _is_archive(file)]

    def _of_file(self, file: Path) -> list[Member]:
        return self._in_archive(file) if _is_archive(file) else [_plain_member(file, file.parent)]

    def _in_archive(self, file: Path) -> list[Member]:
        stem = file.name.partition(".")[0]
        try:
            if zipfile.is_zipfile(file):
                archive = self._stack.enter_context(zipfile.ZipFile(file))
                infos = sorted((info for info in archive.infolist() if not info.is_dir()), key=_natural_zip)
                return [_zip_member(archive, info, file, stem) for info in infos]
            tar = self._stack.enter_context(tarfile.open(file))  # noqa: SIM115 - the stack closes it
            # in their order: to jump about in a packed archive means to unpack it again each time
            return [_tar_member(tar, info, file, stem) for info in tar if info.isfile()]
        except _DAMAGE as error:
            raise InputError(f"is no archive that can be read: {error}", str(file)) from error


def _match(entry: DatasetEntry, members: Sequence[Member]) -> tuple[Layout, dict[str, list[Member]]] | None:
    partial = None
    members = [member for member in members if not _of_macos(member)]
    for layout in entry.layouts:
        found: dict[str, dict[int, list[Member]]] = {}
        for member in members:
            if (role := layout.role_of(member.path)) is not None:
                found.setdefault(role[0], {}).setdefault(role[1], []).append(member)
        # of several expressions of a role, the first with a match
        chosen = {role: by_number[min(by_number)] for role, by_number in found.items()}
        if chosen and not _missing_roles(layout, chosen):
            return layout, chosen
        partial = partial or ((layout, chosen) if chosen else None)
    return partial


def _of_macos(member: Member) -> bool:
    """Whether a file is one that macOS puts into archives beside each other file."""
    return member.name.startswith("._")


def _missing_roles(layout: Layout, found: dict[str, list[Member]]) -> list[str]:
    required = layout.options.get("required", ())
    return [f"{role} ({' or '.join(layout.files[role])})" for role in required if role not in found]


def _is_archive(file: Path) -> bool:
    return file.name.casefold().endswith((".zip", *_TAR_ENDINGS))


def _natural(file: Path) -> list[tuple[int, int, str]]:
    return _natural_key(file.as_posix())


def _natural_zip(info: zipfile.ZipInfo) -> list[tuple[int, int, str]]:
    return _natural_key(info.filename)


def _natural_key(path: str) -> list[tuple[int, int, str]]:
    """Numbers in names are compared as numbers."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", path)]


def _plain_member(file: Path, above: Path) -> Member:
    return Member(_PACKED.sub("", file.relative_to(above).as_posix()), file, lambda: file.open("rb"))


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path, stem: str) -> Member:
    return Member(_PACKED.sub("", f"{stem}/{info.filename}"), file, lambda: archive.open(info))


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo, file: Path, stem: str) -> Member:
    def open_member() -> IO[bytes]:
        return cast("IO[bytes]", tar.extractfile(info))

    return Member(_PACKED.sub("", f"{stem}/{info.name.removeprefix('./')}"), file, open_member)
