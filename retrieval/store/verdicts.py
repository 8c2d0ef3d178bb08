"""Verdicts given, to come back to; verdicts of templates, to give again; what the language model answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, delete, insert, select, update

from retrieval.store.schema import insert_or_touch_plain, verdicts

_CHUNK = 500


class VerdictLike(Protocol):
    """What is kept of a verdict beside its body."""

    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def probability(self) -> float: ...


class History:
    """Verdicts by id, as JSON bodies."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, bodies: Iterable[Mapping[str, Any]]) -> None:
        """Keep verdicts (the contract's JSON); a verdict of the same id is replaced."""
        every = {body["id"]: body for body in bodies}
        ids = list(every)
        with self._engine.begin() as connection:
            for start in range(0, len(ids), _CHUNK):
                some = ids[start : start + _CHUNK]
                connection.execute(delete(verdicts).where(verdicts.c.id.in_(some)))
                connection.execute(
                    insert(verdicts),
                    [
                        {
                            "id": one,
                            "source": every[one]["source"],
                            "label": every[one]["label"],
                            "probability": every[one]["probability"],
                            "body": every[one],
                            "judged_at": datetime.now(UTC),
                        }
                        for one in some
                    ],
                )

    def put_alike(self, alike: Mapping[str, tuple[VerdictLike, str]]) -> None:
        """Keep by their ids verdicts that are like others, which are kept.

        With each a JSON object: the other's id as ``like``, and what is not as there. What is kept under one of the
        ids stays: others may be like it.
        """
        rows = [(one, like.source, like.label, like.probability, body) for one, (like, body) in alike.items()]
        insert_or_touch_plain(self._engine, verdicts, rows, judged_at=datetime.now(UTC))

    def get(self, verdict_id: str) -> dict[str, Any] | None:
        with self._engine.connect() as connection:
            found = connection.execute(select(verdicts.c.id, verdicts.c.body).where(verdicts.c.id == verdict_id)).all()
            return next(iter(_wholes(connection, found)), None)

    def recent(self, source: str, most: int) -> list[tuple[dict[str, Any], str | None]]:
        """The last ``most`` verdicts of a source, newest first, each with the label that it was corrected to."""
        mine = select(verdicts.c.id, verdicts.c.body, verdicts.c.corrected_to).where(verdicts.c.source == source)
        with self._engine.connect() as connection:
            found = connection.execute(mine.order_by(verdicts.c.judged_at.desc()).limit(most)).all()
            return list(zip(_wholes(connection, found), [one.corrected_to for one in found], strict=True))

    def corrected_to(self, verdict_id: str) -> str | None:
        """The label that a person gave the verdict's record, if one did."""
        with self._engine.connect() as connection:
            return connection.scalar(select(verdicts.c.corrected_to).where(verdicts.c.id == verdict_id))

    def corrected(self, verdict_id: str, label: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(update(verdicts).where(verdicts.c.id == verdict_id).values(corrected_to=label))


def _wholes(connection: Connection, found: Sequence[Any]) -> list[dict[str, Any]]:
    """The bodies, those whole that were kept as being like others."""
    likes = list({one.body["like"] for one in found if "like" in one.body})
    wholes: dict[str, dict[str, Any]] = {}
    for start in range(0, len(likes), _CHUNK):
        some = select(verdicts.c.id, verdicts.c.body).where(verdicts.c.id.in_(likes[start : start + _CHUNK]))
        wholes.update((one.id, one.body) for one in connection.execute(some))
    out = []
    for one in found:
        own = {name: value for name, value in one.body.items() if name != "like"}
        out.append({**wholes[one.body["like"]], **own, "id": one.id} if "like" in one.body else own)
    return out
