"""The ranking of records without labels, as plain data for every entry point."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from agent.bulk.summary import Seen
from agent.core.records import Record


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class ContextLine(_Model):
    """A line near a record."""

    line: int
    text: str


class Parameter(_Model):
    """What varies within an event: an address, or the words at one place."""

    name: str
    distinct: int
    top: tuple[tuple[str, int], ...]


class EventTemplate(_Model):
    """One of the templates of an event."""

    pattern: str
    example: Record
    count: int


class Event(_Model):
    """Records that belong together, and why they may be worth a look.

    Attributes
    ----------
    rank : int
        From 1.
    score : float
        What it is ranked by.
    parts : dict of str to float
        The parts of the score, each from 0 to 1.
    reasons : tuple of str
        The same in words.
    pattern, example, count
        Of its most unusual template: the masked text, its first record, and how many there are.
    records, templates : int
        Records of all its templates, and how many these are.
    first, last : Seen
        Where and when.
    counts : tuple of int
        Records in equal parts of the whole time, or of the input where times are unknown.
    parameters : tuple of Parameter
    level : str or None
        As the line has it.
    companions : tuple of EventTemplate
        Templates that occur with it.
    context : tuple of ContextLine
        The lines around its first record.
    """

    rank: int
    score: float
    parts: dict[str, float]
    reasons: tuple[str, ...]
    pattern: str
    example: Record
    count: int
    records: int
    templates: int
    first: Seen
    last: Seen
    counts: tuple[int, ...]
    parameters: tuple[Parameter, ...]
    level: str | None
    companions: tuple[EventTemplate, ...]
    context: tuple[ContextLine, ...] = ()


class Ranking(_Model):
    """The events of some files, the most unusual first; none of them has a label."""

    files: tuple[str, ...]
    records: int
    templates: int
    events: tuple[Event, ...]
    more: int
    start: str | None
    end: str | None
    against: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    # whether records have numbers of their own, which are not compared
    has_numbers: bool = False
