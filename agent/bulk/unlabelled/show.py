"""The ranking for people: on a screen, and as one HTML page without external resources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.bulk.summary import Seen
from agent.bulk.unlabelled.models import Event, Ranking
from agent.core.terminal import console, escape_controls, plural, rich_text, truncate
from agent.core.writing import writing

# events on the screen; characters of an example; values of a parameter and templates that are named
ON_SCREEN, _TEXT_CHARS, _VALUES, _COMPANIONS = 20, 160, 4, 3
# columns from which on the bars over time fit on one line
_WIDE = 110
_BARS = "▁▂▃▄▅▆▇█"
_NUMBERS = "Numbers of rows are not compared here: a source does, which `precedent learn FILE --all-normal` makes."
NOTE = "Nothing here is labelled: events are ranked by how unusual they are, which does not make them anomalous."


def sparkline(counts: Sequence[int]) -> str:
    """Counts as a row of bars; a blank where there is none.

    >>> sparkline([0, 1, 8])
    ' ▁█'
    """
    most = max(counts, default=0) or 1
    return "".join(_BARS[(count * len(_BARS) - 1) // most] if count else " " for count in counts)


def write_ranking(ranking: Ranking, stream: Any = None) -> None:
    """Write the first events as a table to ``stream`` or standard output."""
    from rich.table import Table

    screen = console(stream)
    table = Table(expand=screen.is_terminal, pad_edge=False, show_lines=False)
    for name, ratio in (("", 1), ("records", 2), ("first and last", 5), ("over time", 5), ("event, and why", 20)):
        wide = len(ranking.events[0].counts) if name == "over time" and screen.width >= _WIDE else None
        table.add_column(name, ratio=ratio, overflow="fold", min_width=wide)
    for event in ranking.events[:ON_SCREEN]:
        text = rich_text(truncate(event.example.text, _TEXT_CHARS), "bold")
        for line in details(event):
            text.append(f"\n{escape_controls(line)}", style="dim")
        seen = [event.first, event.last] if event.records > 1 else [event.first]
        places = "\n".join(place_of(ranking, place) for place in seen)
        table.add_row(
            str(event.rank),
            f"{event.records:,}",
            rich_text(places),
            rich_text(sparkline(event.counts)),
            text,
        )
    screen.print(table)
    screen.print(rich_text(headline(ranking, min(ON_SCREEN, len(ranking.events)))), soft_wrap=True)
    screen.print(rich_text(note(ranking)), soft_wrap=True)


def note(ranking: Ranking) -> str:
    """What the ranking does not say."""
    return f"{NOTE} {_NUMBERS}" if ranking.has_numbers else NOTE


def place_of(ranking: Ranking, place: Seen) -> str:
    """Where and when a record is, without the file if there is only one."""
    if len(ranking.files) > 1:
        return str(place)
    return f"line {place.line:,}" + (f", {place.time}" if place.time else "")


def headline(ranking: Ranking, shown: int) -> str:
    """How much was read, and how many events there are, of which so many are shown."""
    events = len(ranking.events) + ranking.more
    span = f" from {ranking.start} to {ranking.end}" if ranking.start else ""
    against = f", compared with {', '.join(ranking.against)}" if ranking.against else ""
    first = f"; the first {shown} are shown" if events > shown else ""
    file = f"{ranking.files[0]}: " if len(ranking.files) == 1 else ""
    return (
        f"{file}{plural(ranking.records, 'record')}{span}, {plural(ranking.templates, 'template')}, "
        f"{plural(events, 'event')}{against}{first}"
    )


def details(event: Event) -> list[str]:
    """Why an event may be worth a look, what varies in it, and what occurs with it."""
    lines = ["; ".join(event.reasons)] if event.reasons else []
    for parameter in event.parameters:
        if parameter.distinct > 1:
            top = ", ".join(f"{truncate(value, 40)} ({count:,})" for value, count in parameter.top[:_VALUES])
            rest = f" and {parameter.distinct - _VALUES:,} more" if parameter.distinct > _VALUES else ""
            lines.append(f"{parameter.name}: {top}{rest}")
    for other in event.companions[:_COMPANIONS]:
        lines.append(f"with {other.count:,} x {truncate(other.example.text, 110)}")
    if (more := event.templates - 1 - _COMPANIONS) > 0:
        lines.append(f"and {plural(more, 'more template')}")
    return lines


def write_page(ranking: Ranking, path: Path) -> None:
    """Write all events as one HTML page.

    Raises
    ------
    UsageError
        The page cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    template = Path(__file__).with_name("ranking.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    html = environment.from_string(template).render(
        ranking=ranking,
        headline=headline(ranking, len(ranking.events)),
        note=note(ranking),
        details=details,
        place_of=place_of,
        plural=plural,
    )
    with writing(path):
        path.write_text(html, encoding="utf-8")
