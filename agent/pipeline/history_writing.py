"""Writing verdicts to the history; where that is impossible, they say so in ``degraded``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from agent.core.records import JudgeError, Verdict
from agent.core.requests import TextRequest
from agent.pipeline.verdict_json import TextContent, VerdictTemplate
from retrieval.errors import NotWritable
from retrieval.store.verdicts import AlikeVerdict, History

_NOT_KEPT = "history: not kept: "
T = TypeVar("T", Verdict, Verdict | JudgeError)


class Hit(NamedTuple):
    """A request, the cached verdict that answers it, and the content of its record."""

    request: TextRequest
    template: VerdictTemplate
    content: TextContent


def try_to_keep(write: Callable[[], None]) -> str | None:
    """Write to the history; what the verdicts say where that is impossible, None where they are kept."""
    try:
        write()
    except NotWritable as error:
        return f"{_NOT_KEPT}{error}"
    return None


def with_note(verdict: Verdict, note: str) -> Verdict:
    """The verdict with a further reason in ``degraded``."""
    return verdict.model_copy(update={"degraded": (*verdict.degraded, note)})


def answers_with_note(hits: Iterable[Hit], note: str) -> Iterator[bytes]:
    """The JSON of the verdicts on ``hits``, each with a further reason in ``degraded``."""
    noted = dict[int, VerdictTemplate]()
    for request, template, content in hits:
        if id(template) not in noted:
            noted[id(template)] = VerdictTemplate.of(with_note(template.verdict, note))
        pieces = noted[id(template)].about(content, request.file, request.line, request.time)
        yield b"".join(pieces)


def put_reused(history: History, hits: Iterable[Hit], same: Iterable[Verdict], alike: Sequence[AlikeVerdict]) -> None:
    """Put in the history what answers ``hits``: verdicts given again, and those on records of their text or template.

    A verdict that others are like, but that was pruned meanwhile, is put again.
    """
    cached = {hit.template.verdict.id: hit.template.verdict for hit in hits}
    history.put({**verdict.to_stored(), "elapsed_ms": 0.0} for verdict in same)
    history.put_alike(alike)
    history.put(cached[verdict_id].to_stored() for verdict_id in history.missing(list(cached)))


def keep_verdicts(history: History, results: Sequence[T]) -> list[T]:
    """Put the verdicts among the results in the history.

    Returns
    -------
    The results; where the history cannot be written to, with a note in each verdict.
    """
    verdicts = [result.to_stored() for result in results if isinstance(result, Verdict)]
    note = try_to_keep(lambda: history.put(verdicts))
    if note is None:
        return list(results)
    return [with_note(result, note) if isinstance(result, Verdict) else result for result in results]


def reason_not_kept(verdict: bytes) -> str | None:
    """Why a verdict, as JSON, is not in the history; None where it is."""
    if _NOT_KEPT.encode() not in verdict:
        return None
    notes: list[str] = json.loads(verdict)["degraded"]
    return next((note.removeprefix(_NOT_KEPT) for note in notes if note.startswith(_NOT_KEPT)), None)
