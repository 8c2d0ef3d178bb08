"""What a person names as input: files, folders, patterns or ``-``; whether each can be read, and whether it is much."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.core.errors import InputError
from agent.data.readers.byte_stream import Damaged, opened
from agent.data.readers.format_detection import detect
from agent.data.readers.row import Format

# from so many lines on, verdicts are written short
MANY = 10_000


def expand_inputs(named: Sequence[str], format: Format, say: Callable[[str], None]) -> list[str]:
    """Each file that is meant, in order: those of a folder and its folders by name, those of a pattern by name.

    Of folders and patterns, a file that cannot be read is left out, which is said.

    Raises:
        InputError: a folder or a pattern has no file that can be read, or a file that was named cannot be.
    """
    out: list[str] = []
    for one in named:
        path = Path(one)
        if path.is_dir():
            files = [str(file) for file in sorted(path.rglob("*")) if _is_data(file, path)]
            out += _some(files, format, say, InputError("the folder has no file that can be read", one))
        elif not path.is_file() and glob.has_magic(one):
            files = sorted(file for file in glob.glob(one, recursive=True) if Path(file).is_file())  # noqa: PTH207
            out += _some(files, format, say, InputError("no file that can be read matches this pattern", one))
        else:
            if one != "-":
                _open(one, format)
            out.append(one)
    return out


def is_large_input(files: Sequence[str]) -> bool:
    """Whether the files have at least `MANY` lines together; what comes from standard input is not looked at."""
    lines = 0
    for file in files:
        if file == "-":
            continue
        with opened(file, None) as stream:
            try:
                for chunk in stream:
                    lines += chunk.count(b"\n")
                    if lines >= MANY:
                        return True
            except Damaged:
                continue
    return False


def _is_data(file: Path, folder: Path) -> bool:
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)


def _some(files: list[str], format: Format, say: Callable[[str], None], none: InputError) -> list[str]:
    out = []
    for file in files:
        try:
            _open(file, format)
            out.append(file)
        except InputError as error:
            say(f"left out: {error}")
    if not out:
        raise none
    return out


def _open(file: str, format: Format) -> None:
    """Raises what reading the file would raise at its beginning, and for what cannot be looked at before it is read."""
    if Path(file).exists() and not Path(file).is_file():
        raise InputError("can be read only once: give it as standard input, as in `judge - < FILE`", file)
    with opened(file, None) as stream:
        detect(stream, file, format)
