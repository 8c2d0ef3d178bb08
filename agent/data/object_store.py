"""Files of an object store (``s3://BUCKET/KEY``), read through PyArrow's file systems.

Credentials, region and endpoint are those of the AWS tools: their configuration files, or variables such as
AWS_ACCESS_KEY_ID, AWS_REGION and AWS_ENDPOINT_URL.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, BinaryIO, cast

from agent.core.errors import InputError, MissingPart

PREFIX = "s3://"
# bytes of a request
_BUFFER = 4 << 20


def is_object(name: str) -> bool:
    """Whether a name is that of an object, or of a folder of objects."""
    return name.startswith(PREFIX)


def open_object(name: str) -> BinaryIO:
    """Open an object for reading. Raises InputError."""
    system, path = _system(name)
    from pyarrow.lib import ArrowException

    try:
        return cast("BinaryIO", system.open_input_stream(path, compression=None, buffer_size=_BUFFER))
    except (OSError, ArrowException) as error:
        raise InputError(_reason(error), name) from error


def objects_under(name: str) -> list[str] | None:
    """The objects of a folder and its subfolders, sorted by name; None if ``name`` is an object. Raises InputError."""
    system, path = _system(name)
    from pyarrow.fs import FileSelector, FileType
    from pyarrow.lib import ArrowException

    try:
        kind = system.get_file_info(path).type
        if kind == FileType.NotFound:
            raise InputError("there is no such object, nor any under that name", name)
        if kind == FileType.File:
            return None
        inside = system.get_file_info(FileSelector(path, recursive=True))
    except (OSError, ArrowException) as error:
        raise InputError(_reason(error), name) from error
    return sorted(PREFIX + info.path for info in inside if info.type == FileType.File)


def _system(name: str) -> tuple[Any, str]:
    if find_spec("pyarrow") is None:
        how = "pip install 'precedent-agent[ray]' (in a clone: make extras)"
        raise MissingPart(f"{name}: reading {PREFIX} needs the package pyarrow", how)
    from pyarrow.fs import FileSystem
    from pyarrow.lib import ArrowException

    try:
        system, path = FileSystem.from_uri(name)
    except (ValueError, OSError, ArrowException) as error:
        raise InputError(_reason(error), name) from error
    return system, path


def _reason(error: Exception) -> str:
    return "cannot be read: " + " ".join(str(error).split())[:300]
