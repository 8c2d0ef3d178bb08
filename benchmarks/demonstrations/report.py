"""Tables as Markdown and JSON, and the page that shows them all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "demonstrations.md"
Row = dict[str, Any]
# what ends the names of figures that are shown in brackets after those of the same names without it
WORST = "_worst"
_HEADINGS = {
    "roc_auc": "AUC",
    "f1": "F1",
    "ece": "ECE",
    "coverage": "decided",
    "decided_error": "error among decided",
    "surely_wrong": "decided and wrong",
}
_INTRODUCTION = """\
# Demonstrations

What the guides of the field demonstrate with language models on workflow logs, measured here: each table by the
command above it, on public data, with fixed seeds, without a language model unless it says otherwise. Each command
takes `--file A B --label COLUMN --normal VALUE` for your own files, `--json` and `--output FILE`; `--help` says what A
and B are. `precedent bench demonstrations --write` makes the whole page.

*decided* is the share of verdicts that are not *unsure*, *error among decided* how many of these are wrong, *decided
and wrong* their share of all records. F1 and AUC are of all records, unsure ones by their probability.
"""


@dataclass(frozen=True)
class Table:
    """A table of one data set: rows with the same keys, of which those that are no figures are texts."""

    title: str
    about: str
    rows: Sequence[Row]

    def markdown(self) -> str:
        """The title, what was done, and the table."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row if not name.endswith(WORST)))
        head = [_HEADINGS.get(name, name.replace("_", " ")) for name in columns]
        lines = [head, ["---"] * len(head), *([_cell(row, name) for name in columns] for row in self.rows)]
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        return f"### {self.title}\n\n{self.about}\n\n{table}"

    def to_json(self) -> Mapping[str, Any]:
        """The same as data."""
        return {"title": self.title, "about": self.about, "rows": list(self.rows)}


def _cell(row: Row, name: str) -> str:
    value, worst = row.get(name), row.get(name + WORST)
    return _shown(value) if worst is None else f"{_shown(value)} ({_shown(worst)})"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}")
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")


def page_with(page: str | None, name: str, section: str, order: Sequence[str]) -> str:
    """The page with the section of one demonstration replaced or added, all in their order."""
    found = dict(re.findall(r"<!-- (\w+): generated -->\n(.*?)\n<!-- /\1 -->", page or "", re.DOTALL))
    found[name] = section.rstrip()
    parts = [f"<!-- {key}: generated -->\n{found[key]}\n<!-- /{key} -->\n" for key in order if key in found]
    return "\n".join([_INTRODUCTION, *parts])
