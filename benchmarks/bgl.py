"""BGL_2k, parsed lines of a supercomputer's log: read, described, and split by template."""

from __future__ import annotations

import random
import re
from pathlib import Path

from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from retrieval.encoding.representation import Representation

BGL = Path(__file__).resolve().parents[2] / "shared" / "data" / "logs" / "bgl" / "BGL_2k.log_structured.csv"
_VARIED = re.compile(r"0x[0-9a-fA-F]+|\d+")
BRIEF = (
    "Messages of the RAS log of a BlueGene/L supercomputer. Normal: informational messages, corrected errors, and "
    "generated core files. Anomalous: alerts about failures of hardware, kernel, network, file system or jobs."
)
INTAKE = ReadOptions(format="csv", label="Label", normal=("-",), text=("Content",))
# each line of the log without time and place
WHOLE = INTAKE.model_copy(update={"text": ("Component", "Level", "Content")})


def varied(line: str, rng: random.Random) -> str:
    """The line with each digit of its numbers and addresses replaced."""

    def replace(match: re.Match[str]) -> str:
        text = match[0]
        if text.startswith("0x"):
            return "0x" + "".join(rng.choices("0123456789abcdef", k=len(text) - 2))
        return "".join(rng.choices("0123456789", k=len(text)))

    return _VARIED.sub(replace, line)


def halves(seed: int) -> tuple[list[ParsedRow], list[ParsedRow]]:
    """Rows whose templates are in the casebook (60 % of each label's), and those whose templates are not."""
    rows = [row for row in INTAKE.read(BGL, 65_536) if isinstance(row, ParsedRow)]
    representation = Representation()
    known: set[str] = set()
    for label in ("normal", "anomalous"):
        templates = sorted({representation.masked(row.record) for row in rows if row.label == label})
        known |= set(random.Random(seed).sample(templates, len(templates) * 6 // 10))
    return (
        [row for row in rows if representation.masked(row.record) in known],
        [row for row in rows if representation.masked(row.record) not in known],
    )
