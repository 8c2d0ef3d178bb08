"""What a person names as input: files, folders, patterns or ``-``; and whether it is much."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from agent.errors import InputError
from agent.readers.streams import Damaged, opened

# from so many lines on, verdicts are written short
MANY = 10_000


def expanded(named: Sequence[str]) -> list[str]:
    """Each file that is meant, in order: those of a folder and its folders by name, those of a pattern by name.

    Raises:
        InputError: a folder or a pattern has no file.
    """
    out: list[str] = []
    for one in named:
        path = Path(one)
        if one == "-" or path.is_file():
            out.append(one)
        elif path.is_dir():
            out += _some([str(file) for file in sorted(path.rglob("*")) if _is_data(file, path)], one, "the folder")
        elif glob.has_magic(one):
            out += _some(sorted(file for file in glob.glob(one, recursive=True) if Path(file).is_file()), one, "it")  # noqa: PTH207
        else:
            # its reader says what is wrong with it
            out.append(one)
    return out


def are_many(files: Sequence[str]) -> bool:
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


def _some(files: list[str], named: str, what: str) -> list[str]:
    if not files:
        raise InputError(f"no file: {what} has none", named)
    return files
