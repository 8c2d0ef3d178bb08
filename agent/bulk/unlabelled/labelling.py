"""Labels that a person gives to events: they become the first cases of a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.bulk.unlabelled.models import Event
from agent.core.access import Role, require, signed
from agent.core.progress import Progress
from agent.core.records import Label
from agent.data.read_options import ReadOptions
from agent.data.record_reading import as_read
from agent.pipeline.context import AppContext
from agent.training.learn import as_case, check_name
from agent.training.refit import refit
from retrieval.casebook import NewCase

GIVEN_BY = "labels of events"


def learn_labels(
    context: AppContext,
    source: str,
    read_options: ReadOptions,
    labelled: Sequence[tuple[Event, Label]],
    progress: Progress | None = None,
) -> int:
    """Make cases of labelled events, and fit the source, which is created if it does not exist.

    A normal event is normal with all its templates; of an anomalous one only the template that stands for it is
    anomalous, since what occurs with it may be normal.

    Returns
    -------
    int
        How many cases are new.

    Raises
    ------
    Forbidden
        The caller's role is not enough.
    UsageError
        The source's name is not valid.
    """
    require(Role.ADMIN)
    check_name(source)

    def cases() -> Iterator[NewCase]:
        for event, label in labelled:
            yield as_case(as_read(event.example, read_options), label)
            if label == "normal":
                yield from (as_case(as_read(other.example, read_options), label) for other in event.companions)

    added = context.casebook.add(source, cases(), signed(GIVEN_BY))
    if added:
        context.casebook.set(source, reading=read_options.to_stored())
        refit(context, source, progress=progress)
    return added
