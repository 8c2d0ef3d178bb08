"""The format of a stream, from its beginning: a log, a table, JSON lines or Parquet; binary files are refused."""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import Literal

from agent.core.errors import InputError
from agent.core.records import ANSI_SEQUENCE
from agent.data.readers.byte_stream import Stream

Kind = Literal["log", "csv", "jsonl", "parquet"]
Format = Literal["auto"] | Kind

PARQUET_MAGIC = b"PAR1"
SNIFFED_LINES = 50

_BY_EXTENSION: dict[str, Kind] = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
_PACKED = frozenset({".gz", ".gzip", ".zst", ".zstd"})
_FEWEST_LINES = 2
_FEWEST_COMMAS = 3

_BINARY_MAGIC = {
    b"\x7fELF": "a program",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"\x1f\x8b": "packed twice: unpack it first",
    b"\x28\xb5\x2f\xfd": "packed twice: unpack it first",
    b"\xfd7zXZ\x00": "an xz archive: unpack it first",
    b"BZh91AY&SY": "a bzip2 archive: unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"%PDF-": "a PDF",
    b"SQLite format 3\x00": "a database",
    PARQUET_MAGIC: "Parquet: --format parquet reads it",
}
# objects back to back, over several lines, in an array or after a record separator (RFC 7464)
_JSON_BEGINS = re.compile(rb'[\s\x1e\[]*\{\s*"[^"]*"\s*:')
_JSON_MAY_BEGIN = re.compile(rb'[\s\x1e\[]*(?:\{\s*(?:"[^"]*"?\s*)?)?(?:\x1b.*)?')
_HTML = re.compile(rb"\s*(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)
_ANSI = re.compile(ANSI_SEQUENCE.encode())
_BINARY_BYTES = 8_192
_BINARY_SHARE = 0.3
_NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\udc80-\udcff]")


def extension(file: str) -> str:
    """The extension that tells the format: without that of the packing, a log's even if it was rotated."""
    suffixes = [suffix.casefold() for suffix in PurePath(file).suffixes]
    while suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    if ".log" in suffixes:
        return suffixes[-1] if suffixes[-1] in _BY_EXTENSION else ".log"
    return suffixes[-1] if suffixes else ""


def detect(stream: Stream, file: str, format: Format) -> Kind:
    """The format of a stream: as the user says, else by its magic bytes, its file name, its first lines.

    Raises
    ------
    InputError
        It is neither text nor Parquet.
    """
    kind = _detect_by_name(stream, file) if format == "auto" else format
    if kind is None:
        ending = extension(file)
        stream.look(lambda head: _detect_by_lines(head, ending, complete=False) is not None)
        kind = _detect_by_lines(stream.head, ending, complete=True) or "log"
        if kind == "log" and _HTML.match(stream.head):
            raise InputError("is an HTML page (of a login, or an error?), not data; --format log reads its lines", file)
    if kind != "parquet":
        _refuse_binary(stream, file)
    return kind


def _detect_by_name(stream: Stream, file: str) -> Kind | None:
    if stream.starts_with(PARQUET_MAGIC):
        return "parquet"
    if extension(file) == ".parquet":
        raise InputError("is named .parquet but holds none (it does not begin with PAR1)", file)
    return _BY_EXTENSION.get(extension(file))


def _detect_by_lines(head: bytes, ending: str, *, complete: bool) -> Kind | None:
    """The format that these first bytes show; ``None`` if it takes more of them."""
    whole = head.split(b"\n") if complete else head.split(b"\n")[:-1]
    lines = [line.strip(b"\r") for line in whole if line.strip()]
    if not lines:
        return None
    begins = _ANSI.sub(b"", head)
    if _is_json_object(lines[0]) or _JSON_BEGINS.match(begins):
        return "jsonl"
    if not complete and _JSON_MAY_BEGIN.fullmatch(begins):
        return None
    if ending == ".log" or not _looks_tabular(lines[:SNIFFED_LINES]):
        return "log"
    if len(lines) < _FEWEST_LINES:
        return None
    return "csv" if complete or len(lines) >= SNIFFED_LINES else None


def _is_json_object(line: bytes) -> bool:
    if not line.lstrip().startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _looks_tabular(lines: list[bytes]) -> bool:
    """Whether each line has the same number of tabs, or of (at least three) commas: prose and logs do not."""
    tabs = {line.count(b"\t") for line in lines}
    commas = {line.count(b",") for line in lines}
    return any(len(counts) == 1 and min(counts) >= fewest for counts, fewest in ((tabs, 1), (commas, _FEWEST_COMMAS)))


def _refuse_binary(stream: Stream, file: str) -> None:
    """Refuse what is not text by its magic bytes, or because much of its beginning is not."""
    # Of a live pipe only what is there already: it must not be waited for.
    head = stream.look(lambda head: file == "-" or len(head) >= _BINARY_BYTES)[:_BINARY_BYTES]
    for magic, kind_of_file in _BINARY_MAGIC.items():
        if head.startswith(magic):
            raise InputError(f"looks like a binary file ({kind_of_file})", file)
    text = head.decode("utf-8", "surrogateescape")
    share = len(_NOT_TEXT.findall(text)) / max(len(text), 1)
    if share > _BINARY_SHARE:
        raise InputError(
            f"looks like a binary file ({share:.0%} of its beginning is not UTF-8 text; "
            "if it is text in another encoding, convert it: iconv -f ENCODING -t UTF-8)",
            file,
        )
