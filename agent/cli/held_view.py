"""How the command line shows corrections that wait for a second person."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.terminal import STYLES, console, rich_text, truncate
from agent.training.opposing_corrections import HeldView


def print_held(rows: Sequence[HeldView]) -> None:
    """Print a table of corrections that wait for a second person."""
    from rich.table import Table

    table = Table(expand=console().is_terminal, pad_edge=False)
    widths = {"id": max([len(held.held_id) for held in rows], default=2), "would be": 9}
    for name, ratio in (("id", None), ("now", None), ("would be", None), ("by", 1), ("why it waits", 2), ("record", 3)):
        table.add_column(name, ratio=ratio, overflow="fold", no_wrap=ratio is None, min_width=widths.get(name))
    for held in rows:
        text = truncate(held.record.text, 200) if held.record else "(not stored any more)"
        before = rich_text(held.label_before or "-", STYLES.get(held.label_before or "", ""))
        label = rich_text(held.label, STYLES[held.label])
        table.add_row(held.held_id, before, label, rich_text(held.held_by), rich_text(held.reason), rich_text(text))
    console().print(table)
