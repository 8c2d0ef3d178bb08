"""Which files a person means by names, folders, patterns or ``-``, and whether they are many lines."""

from __future__ import annotations

import glob
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from agent.core.errors import InputError
from agent.data.object_store import is_object, objects_under
from agent.data.readers.byte_stream import Damaged, Stream, opened
from agent.data.readers.format_detection import PARQUET_MAGIC, Format, detect
from agent.data.readers.json_document import is_value_a_line

# from so many records on, verdicts are written short
MANY = 10_000
_OF_JSON = re.compile(rb'\s*(?:\[\s*)?\{\s*"')


def expand_inputs(names: Sequence[str], format: Format, say: Callable[[str], None]) -> list[str]:
    """Expand names to files: those of a folder and its subfolders, or of a pattern, sorted by name.

    Parameters
    ----------
    names
        Files, folders, glob patterns, ``s3://`` objects or folders of them, or ``-`` for standard input.
    format
        The format that the files are read as.
    say
        Receives a line for each file of a folder or a pattern that is left out because it cannot be read.

    Raises
    ------
    InputError
        A file cannot be read, or a folder or a pattern has none that can be.
    """
    files: list[str] = []
    for name in names:
        path = Path(name)
        if is_object(name) and (objects := objects_under(name)) is not None:
            found, problem = list(_readable(objects, format, say)), "the folder has no object that can be read"
        elif path.is_dir():
            inside = [str(file) for file in sorted(path.rglob("*")) if file.is_file() and not is_hidden(file, path)]
            found, problem = list(_readable(inside, format, say)), "the folder has no file that can be read"
        elif not path.is_file() and glob.has_magic(name):
            matches = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())  # noqa: PTH207
            found, problem = list(_readable(matches, format, say)), "no file that can be read matches this pattern"
        else:
            found, problem = [name], ""
            if name != "-":
                _check_readable(name, format)
        if not found:
            raise InputError(problem, name)
        files += found
    return files


def is_large_input(files: Sequence[str]) -> bool:
    """Whether the files have about `MANY` records together, or more; standard input is not looked at."""
    count = 0
    for file in files:
        if file == "-":
            continue
        with opened(file) as stream, suppress(Damaged):
            for records in _counted(stream):
                count += records
                if count >= MANY:
                    return True
    return False


def _counted(stream: Stream) -> Iterator[int]:
    """How many records follow, a part at a time: rows of Parquet, lines, or objects of a document if these are more."""
    if stream.path is not None and stream.starts_with(PARQUET_MAGIC):
        # only a file of this format needs polars here
        from agent.data.readers.parquet import row_count

        yield row_count(stream.path)
        return
    is_document = _OF_JSON.match(stream.head) is not None and not is_value_a_line(stream)
    for chunk in stream:
        yield max(chunk.count(b"\n"), chunk.count(b"},") * is_document)


def is_hidden(file: Path, folder: Path) -> bool:
    """Whether the file, or a folder between it and ``folder``, has a name that begins with a dot."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _readable(files: Iterable[str], format: Format, say: Callable[[str], None]) -> Iterator[str]:
    for file in files:
        try:
            _check_readable(file, format)
            yield file
        except InputError as error:
            say(f"left out: {error}")


def _check_readable(file: str, format: Format) -> None:
    """Raise what reading the file would raise at its beginning, and for what can be read only once."""
    if Path(file).exists() and not Path(file).is_file():
        raise InputError("can be read only once: give it as standard input, as in `judge - < FILE`", file)
    with opened(file) as stream:
        detect(stream, file, format)


@contextmanager
def spooled_stdin(files: Sequence[str | Path]) -> Iterator[BinaryIO | None]:
    """What standard input holds, on disk, if it is one of the files: it is read more than once."""
    with tempfile.TemporaryFile() as spool:
        if "-" in map(str, files):
            shutil.copyfileobj(sys.stdin.buffer, spool)
        yield spool if "-" in map(str, files) else None
