"""Errors that Precedent raises on purpose, and the answer of each entry point to them.

PrecedentError                exit code / HTTP status
├── UsageError                2 / 422   the request itself is wrong
│   ├── UnknownSource         2 / 404   no source of that name
│   ├── UnknownVerdict        2 / 404   no verdict of that id
│   ├── UnknownCase           2 / 404   no case of that id
│   ├── UnknownHeldCorrection 2 / 404   no correction of that id waits
│   ├── Conflict              2 / 409   valid, but not as things are now: nothing to undo, two sources to choose from
│   └── InputError            2 / 422   a file or a body that cannot be read, with its file and line
├── Forbidden                 2 / 403   the API key has not the role that this needs
├── MissingPart               3 / 503   a model, a program or a package is missing
│   ├── ModelUnavailable      3 / 503   no weights, a wrong hash, or a model server that does not answer
│   ├── IndexMismatch         3 / 503   the vector index was made by another embedding model
│   ├── DetectorError         3 / 503   fitted models, or a detector of an installed package, cannot be used
│   └── NotWritable           3 / 507   a disk is full, or a file or folder is read-only
├── Busy                      1 / 429   a bounded queue is full, or too many corrections: try again later
└── Stopped                 130         interrupted by Ctrl-C or a signal

A message is one line that a person can act on. `llm` and `retrieval`, which do not know this tree, raise their own
errors; each entry point (command line, HTTP, chat) catches `EXPECTED` and translates what it shows.
"""

from __future__ import annotations

from llm.errors import EngineBusy, ModelFailure
from retrieval.errors import EmbedderMismatch, EmbedderMissing, StoreFailure
from retrieval.errors import NotWritable as StoreNotWritable

NEW_SOURCE_HINT = "`precedent learn FILE --source NAME --label COLUMN` creates one"


class PrecedentError(Exception):
    """Root of the tree.

    Parameters
    ----------
    message : str
        What is wrong, in one line that holds for every entry point.
    hint : str, optional
        The command that helps; only the command line shows it.
    """

    exit_code = 1
    http_status = 500

    def __init__(self, message: str = "", hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PrecedentError):
    """The request itself is wrong."""

    exit_code = 2
    http_status = 422


class UnknownSource(UsageError):
    """There is no source of that name; ``known`` are those there are."""

    http_status = 404

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"unknown source {name!r}; known sources: {', '.join(known) or 'none yet'}",
            None if known else NEW_SOURCE_HINT,
        )


class UnknownVerdict(UsageError):
    """There is no verdict of that id."""

    http_status = 404

    def __init__(self, verdict_id: str) -> None:
        super().__init__(
            f"no verdict {verdict_id!r} in the history", "`precedent judge --to jsonl` writes ids (key `id`)"
        )


class UnknownCase(UsageError):
    """There is no case of that id."""

    http_status = 404

    def __init__(self, case_id: str) -> None:
        super().__init__(f"no case {case_id!r} in the casebook", "`precedent cases list --source NAME` lists them")


class UnknownHeldCorrection(UsageError):
    """No correction of that id waits for a second person."""

    http_status = 404

    def __init__(self, held_id: str) -> None:
        super().__init__(f"no held correction {held_id!r}", "`precedent cases held --source NAME` lists them")


class Conflict(UsageError):
    """The request is valid, and cannot be followed as things are now."""

    http_status = 409


class InputError(UsageError):
    """A file, or a line of it, that cannot be read in its format."""

    def __init__(self, reason: str, file: str | None = None, line: int | None = None, hint: str | None = None) -> None:
        self.reason, self.file, self.line = reason, file, line
        place = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(f"{place}: {reason}" if place else reason, hint)


class Forbidden(PrecedentError):
    """The API key of the request has not the role that this needs."""

    exit_code = 2
    http_status = 403


class MissingPart(PrecedentError):
    """A model, a program or a package is missing."""

    exit_code = 3
    http_status = 503


class ModelUnavailable(MissingPart):
    """A model cannot be loaded, or its server does not answer."""


class IndexMismatch(MissingPart):
    """The vector index was made by another embedding model."""


class DetectorError(MissingPart):
    """The fitted models of a source, or a detector of an installed package, cannot be used."""


class NotWritable(MissingPart):
    """A disk is full, or a file or folder is read-only; what needs no write goes on."""

    http_status = 507


class Busy(PrecedentError):
    """A bounded queue is full, or a client asks too often; ``seconds``: when to try again."""

    http_status = 429

    def __init__(self, message: str = "", seconds: int = 1) -> None:
        super().__init__(message)
        self.seconds = seconds


class Stopped(PrecedentError):
    """Interrupted by Ctrl-C or a signal."""

    exit_code = 130


_TRANSLATIONS: tuple[tuple[type[Exception], type[PrecedentError]], ...] = (
    (EngineBusy, Busy),
    (ModelFailure, ModelUnavailable),
    (EmbedderMissing, ModelUnavailable),
    (EmbedderMismatch, IndexMismatch),
    (StoreNotWritable, NotWritable),
    (StoreFailure, MissingPart),
)
EXPECTED: tuple[type[Exception], ...] = (PrecedentError, *(foreign for foreign, _ in _TRANSLATIONS))
"""What an entry point catches: errors with a message for the user; any other error is a defect."""


def translate(error: BaseException) -> PrecedentError | None:
    """The error as one of this tree, or None where it is none of `EXPECTED`."""
    if isinstance(error, PrecedentError):
        return error
    for foreign, error_class in _TRANSLATIONS:
        if isinstance(error, foreign):
            translated = error_class(str(error), getattr(error, "hint", None))
            translated.__cause__ = error
            return translated
    return None


def describe(error: BaseException) -> str:
    """The message for the user; of an unexpected error its class as well."""
    expected = translate(error)
    return str(expected) if expected else f"{type(error).__name__}: {error}"
