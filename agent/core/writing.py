"""Files that cannot be written: what is said of them, in one way everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.core.errors import NotWritable, PrecedentError, UsageError
from retrieval.disk import is_full


def cannot_be_written(path: Path | None, error: OSError, hint: str | None = None) -> PrecedentError:
    """The error of a file or folder that cannot be written, or of standard output (None).

    A full disk is `NotWritable`; whatever else there is, another path helps: `UsageError`.

    Parameters
    ----------
    hint : str, optional
        What helps when the disk has room again.
    """
    name = "the output" if path is None else str(path)
    if is_full(error):
        return NotWritable(f"{name} cannot be written: its disk is full: free some space on it", hint)
    return UsageError(f"{name} cannot be written: {error.strerror or error}")


@contextmanager
def writing(path: Path | None, hint: str | None = None) -> Iterator[None]:
    """Raise `cannot_be_written` where writing within it fails; a closed pipe stays `BrokenPipeError`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_be_written(path, error, hint) from error
