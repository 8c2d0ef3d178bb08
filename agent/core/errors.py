"""Every error that Precedent raises on purpose, and where each comes from.

PrecedentError                exit code / HTTP status
├── UsageError                2 / 422   the request itself cannot be right
│   ├── UnknownSource         2 / 404   no source of that name
│   ├── UnknownVerdict        2 / 404   no verdict of that id
│   └── InputError            2 / 422   a file or a body that cannot be read, with its file and line
├── MissingPart               3 / 503   a model, a program or a package that is needed is not there
│   ├── ModelUnavailable      3 / 503   no weights, a wrong hash, or a model server that does not answer
│   ├── IndexMismatch         3 / 503   the vector index was made by another embedding model
│   └── DetectorError         3 / 503   a detector of an installed package cannot be used
├── Busy                      1 / 429   a bounded queue is full: try again later
└── Stopped                 130         told to stop, by Ctrl-C or a signal

A message is one line that a person can act on. Errors of other libraries and of the rooms below
(`llm`, `retrieval`) are turned into these at the boundary, by :func:`mapped`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PrecedentError(Exception):
    """Root of the tree; ``exit_code`` and ``http_status`` are what the doors answer."""

    exit_code = 1
    http_status = 500


class UsageError(PrecedentError):
    exit_code = 2
    http_status = 422


class UnknownSource(UsageError):
    http_status = 404

    def __init__(self, name: str, known: list[str]) -> None:
        there = ", ".join(known) if known else "none yet: `precedent learn FILE --source NAME` makes one"
        super().__init__(f"unknown source {name!r}; sources here: {there}")


class UnknownVerdict(UsageError):
    http_status = 404

    def __init__(self, verdict_id: str) -> None:
        super().__init__(f"no verdict {verdict_id!r} in the history (the id is in `judge --to jsonl`, key `id`)")


class InputError(UsageError):
    """A file, or a line of it, that cannot be read as what it is said to be."""

    def __init__(self, reason: str, file: str | None = None, line: int | None = None) -> None:
        self.reason, self.file, self.line = reason, file, line
        place = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(f"{place}: {reason}" if place else reason)


class MissingPart(PrecedentError):
    exit_code = 3
    http_status = 503


class ModelUnavailable(MissingPart):
    pass


class IndexMismatch(MissingPart):
    pass


class DetectorError(MissingPart):
    pass


class Busy(PrecedentError):
    http_status = 429


class Stopped(PrecedentError):
    exit_code = 130


@contextmanager
def mapped() -> Iterator[None]:
    """Turn errors of the rooms below and of their libraries into this tree."""
    from llm.errors import EngineBusy, ModelFailure
    from retrieval.errors import EmbedderMismatch, EmbedderMissing, StoreFailure

    try:
        yield
    except EngineBusy as error:
        raise Busy(str(error)) from error
    except (ModelFailure, EmbedderMissing) as error:
        raise ModelUnavailable(str(error)) from error
    except EmbedderMismatch as error:
        raise IndexMismatch(str(error)) from error
    except StoreFailure as error:
        raise MissingPart(str(error)) from error
