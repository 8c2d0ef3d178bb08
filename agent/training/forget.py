"""Forgetting records: whatever a source holds on those that match a pattern is erased, and what remains is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.core.errors import EXPECTED, UsageError, describe
from agent.core.progress import Progress
from agent.core.records import clean_text
from agent.pipeline.context import AppContext
from agent.training.refit import refit
from retrieval.lru_cache import clear_caches
from retrieval.store.erasure import Erasure, clean_file, erase_fits, knows_erased

_SECONDS = 2.0
_BLOCK = 1 << 20


@dataclass
class Forgotten:
    """What was erased, or would be.

    Attributes
    ----------
    source : str
    dry_run : bool
        Whether nothing was changed.
    erased : dict of str to int
        Rows by kind: cases, corrections, verdicts, vectors and others.
    examples : list of str
        Texts of the first records.
    refitted : bool
        Whether the source was fitted again without the records.
    not_erased : list of str
        Where something of the records may be left, and what to do about it.
    """

    source: str
    dry_run: bool
    erased: dict[str, int]
    examples: list[str]
    refitted: bool = False
    not_erased: list[str] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether anything matched."""
        return any(self.erased.values())

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def forget(
    context: AppContext,
    source: str,
    pattern: str,
    *,
    by_regex: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Forgotten:
    """Erase what a source holds on records with texts that match.

    Cases, corrections, verdicts that quote such a record (as their record, as a precedent, in an explanation), caches
    and groups of `watch` are deleted, and the source is fitted again without them.

    Parameters
    ----------
    context : AppContext
    source : str
    pattern : str
        A part of a text, whatever its case; or a regular expression.
    by_regex : bool
        Whether ``pattern`` is a regular expression.
    dry_run : bool
        Whether to count only.
    progress : Progress, optional

    Raises
    ------
    UsageError
        The pattern is empty, matches every text, is no regular expression, or takes too long.
    StoreFailure
        Another process has the index; nothing is erased.
    """
    # records are stored without what a store cannot hold
    pattern = clean_text(pattern)
    row, engine = context.source(source), context.casebook.engine
    matches = _matcher(pattern, by_regex=by_regex)
    erasure = Erasure(engine, row.name, matches, progress)
    erasure.find()
    result = Forgotten(row.name, dry_run, erasure.counts, erasure.examples)
    if dry_run:
        return result
    part = None if by_regex else pattern
    if not result.found and not (knows_erased(row.source_model) or _files_with(context.settings.home, part)):
        return result
    with context.fitting(row.name):
        if result.found:
            context.casebook.erase_vectors(row.name, erasure.erase)
        anew = bool(erasure.counts["representation"])
        # a run before this one may have ended before the source was fitted again
        if erasure.counts["cases"] or anew or knows_erased(row.source_model):
            result.refitted = _fit_without(context, row.name, result, progress, anew=anew)
        _erase_late(context, row.name, matches, result)
    clear_caches()
    if reason := clean_file(engine):
        result.not_erased.append(reason)
    result.not_erased += _left(context, row.name, part)
    return result


def _erase_late(context: AppContext, name: str, matches: Callable[[str], bool], result: Forgotten) -> None:
    """Erase what requests that were under way wrote after the erasure: their verdicts quote cases that are gone."""
    late = Erasure(context.casebook.engine, name, matches)
    late.find()
    if any(late.counts.values()):
        context.casebook.erase_vectors(name, late.erase)
        result.erased |= {kind: count + result.erased.get(kind, 0) for kind, count in late.counts.items()}


def _matcher(pattern: str, *, by_regex: bool) -> Callable[[str], bool]:
    if not pattern.strip():
        raise UsageError("--matching needs a text that records have")
    if not by_regex:
        part = pattern.casefold()
        return lambda text: part in text.casefold()
    import regex

    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}") from error

    def matches(text: str) -> bool:
        try:
            return compiled.search(text, timeout=_SECONDS) is not None
        except TimeoutError:
            raise UsageError(
                f"{pattern!r} takes more than {_SECONDS:g} s on one text of {len(text):,} characters: nothing was "
                "erased; simplify it"
            ) from None

    if matches(""):
        raise UsageError(f"{pattern!r} matches every text")
    return matches


def _fit_without(context: AppContext, name: str, result: Forgotten, progress: Progress | None, *, anew: bool) -> bool:
    """Fit the source without what was erased; where that is impossible, the fit is erased too."""
    engine, remaining = context.casebook.engine, sum(context.source(name).counts.values())
    if not remaining:
        context.casebook.set(name, representation=None)
        erase_fits(engine, name, present=True)
        return False
    try:
        if anew:
            context.casebook.rebuild(name, progress)
        refit(context, name, progress=progress)
    except EXPECTED as error:
        erase_fits(engine, name, present=True)
        result.not_erased.append(
            f"{name} could not be fitted again ({describe(error)}): it has no fit now; "
            f"`precedent sources refit {name}` makes one"
        )
        return False
    erase_fits(engine, name, present=False)
    return True


def _left(context: AppContext, name: str, part: str | None) -> list[str]:
    """Where something may be left that this program does not erase."""
    home, left = context.settings.home, list[str]()
    folder = context.detector_resources(context.source(name)).folder
    if folder is not None and folder.is_dir() and any(folder.iterdir()):
        left.append(
            f"what was trained on the records is in {folder} (adapters, tuned classifiers): train them again "
            f"(`precedent tune`) or delete them"
        )
    if context.settings.chroma:
        left.append(f"the Chroma server at {context.settings.chroma} keeps bytes of deleted vectors until it compacts")
    if context.settings.remote_services:
        left.append(f"others may have logs of it: {', '.join(context.settings.remote_services)}")
    kept = sorted(path.name for path in home.absolute().parent.glob(f"{home.name}.before-restore-*"))
    if kept:
        left.append(f"what `precedent restore` kept: {', '.join(kept)}")
    left.append("backups, exports, outputs of `judge` and `watch`, and the files that were learned")
    left += [
        f"{path} still holds the text: another source may have it (forget it there as well), or a process that is "
        f"still open"
        for path in _files_with(home, part)
    ]
    return left


def _files_with(home: Path, part: str | None) -> list[Path]:
    """The files of the data directory that hold this text; of a pattern (None) it is not known."""
    files = sorted(home.rglob("*")) if part is not None else []
    return [path for path in files if path.is_file() and part is not None and _holds(path, part)]


def _holds(path: Path, part: str) -> bool:
    """Whether a file holds a text, in one of the ways in which it may be written."""
    written = {part, part.lower(), part.upper(), part.title()}
    forms = {form.encode().lower() for text in written for form in (text, json.dumps(text)[1:-1])}
    end, longest = b"", max(map(len, forms))
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            block = end + block.lower()
            if any(form in block for form in forms):
                return True
            end = block[-longest:]
    return False
