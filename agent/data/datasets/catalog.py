"""The public data sets that are known by name, read from `catalog.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from agent.core.errors import UsageError

CATALOG = Path(__file__).with_name("catalog.toml")
NOT_RECORDED = "not recorded"

Access = Literal["open", "account", "request", "credentials", "generated"]
SplitName = Literal["published", "time", "random"]
Output = Literal["csv", "jsonl"]

# loaders that read any file as one of the role "all"
_OF_ONE_FILE = frozenset({"table", "lines", "arrays", "charts", "series"})

ACCESS: Mapping[Access, str] = MappingProxyType(
    {
        "open": "without an account",
        "account": "with an account",
        "request": "on request",
        "credentials": "with credentials",
        "generated": "generated here",
    }
)


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """A file whose SHA-256 is recorded; ``origin`` is where the digest is from."""

    name: str
    sha256: str
    origin: str


@dataclass(frozen=True, slots=True)
class Download:
    """A file that can be downloaded without an account."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Layout:
    """One of the layouts in which a data set is found.

    Parameters
    ----------
    about
        The files, in words.
    loader
        The function that reads them, see `agent.data.datasets.loaders`.
    files
        For each role (``train``, ``test``, ``all`` or one of the loader's) regular expressions of paths. All files that
        match the first expression with a match have the role.
    split
        How records are divided into `train` and `test`; ``files``: the files, or the loader, show it.
    files_split, files_split_about
        What the split of the files is, and how it is called.
    otherwise
        The split where only one side of that of the files is at hand.
    output
        The format of the files that are written.
    options
        What else the loader needs.
    """

    about: str
    loader: str
    files: Mapping[str, tuple[str, ...]]
    split: Literal["files", "time", "random"] = "random"
    files_split: Literal["published", "time"] = "published"
    files_split_about: str = "the published split"
    otherwise: Literal["time", "random"] = "random"
    output: Output = "csv"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def takes_any_name(self) -> bool:
        """Whether a single file will do, whatever its name is."""
        return not self.options.get("required") and self.loader in _OF_ONE_FILE

    def role_of(self, path: str) -> tuple[str, int] | None:
        """The role of a file and the number of the expression that its path matches; None if it has no role."""
        for role, expressions in self.files.items():
            for number, expression in enumerate(expressions):
                if re.search(rf"(?:^|/){expression}$", path, re.IGNORECASE):
                    return role, number
        return None


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """A data set of the catalog."""

    name: str
    title: str
    about: str
    source: str
    licence: str
    access: Access
    size: str
    label: str
    split: str
    get: str
    layouts: tuple[Layout, ...]
    downloads: tuple[Download, ...] = ()
    digests: tuple[DatasetFile, ...] = ()
    labelled: bool = True

    def sha256_of(self, file: str) -> tuple[DatasetFile, ...]:
        """The recorded digests of files of that name."""
        return tuple(digest for digest in self.digests if digest.name.casefold() == file.casefold())


@cache
def catalog() -> Mapping[str, DatasetEntry]:
    """Return all known data sets by name, in the catalog's order."""
    read = tomllib.loads(CATALOG.read_text(encoding="utf-8"))
    columns = {name: tuple(names.split()) for name, names in read["columns"].items()}
    entries = {name: _entry(name, values, columns) for name, values in read["sets"].items()}
    return MappingProxyType(entries)


def find_dataset(name: str) -> DatasetEntry:
    """Return the data set of a name, in whatever case and with whatever separators.

    Raises
    ------
    UsageError
        There is none of that name.
    """
    known = {_plain(key): entry for key, entry in catalog().items()}
    if entry := known.get(_plain(name)):
        return entry
    close = get_close_matches(_plain(name), known, n=3)
    suggested = ", ".join(known[key].name for key in close) or ", ".join(catalog())
    raise UsageError(
        f"no data set {name!r}; {'did you mean' if close else 'the known ones are'} {suggested}",
        "`precedent datasets list` shows them",
    )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _entry(name: str, values: Mapping[str, Any], columns: Mapping[str, tuple[str, ...]]) -> DatasetEntry:
    layouts = tuple(_layout(layout, columns) for layout in values["layouts"])
    downloads = tuple(Download(**file) for file in values.get("downloads", ()))
    digests = tuple(DatasetFile(**file) for file in values.get("digests", ()))
    others: dict[str, Any] = {
        key: " ".join(value.split()) if isinstance(value, str) else value for key, value in values.items()
    }
    others |= {"layouts": layouts, "downloads": downloads, "digests": digests}
    return DatasetEntry(name=name, **others)


def _layout(values: Mapping[str, Any], columns: Mapping[str, tuple[str, ...]]) -> Layout:
    files = {role: tuple(expressions) for role, expressions in values["files"].items()}
    options = dict(values.get("options", {}))
    if isinstance(options.get("columns"), str):
        options["columns"] = columns[options["columns"]]
    return Layout(**{**values, "files": files, "options": options})
