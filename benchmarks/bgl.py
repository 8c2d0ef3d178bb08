"""BGL_2k, parsed lines of a supercomputer's log: read, described, and parted by template."""

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
# what each line of the log says beside time and place
WHOLE = INTAKE.model_copy(update={"text": ("Component", "Level", "Content")})


def varied(line: str, rng: random.Random) -> str:
    """The line, each digit of its numbers and addresses another one."""

    def other(found: re.Match[str]) -> str:
        text = found[0]
        if text.startswith("0x"):
            return "0x" + "".join(rng.choices("0123456789abcdef", k=len(text) - 2))
        return "".join(rng.choices("0123456789", k=len(text)))

    return _VARIED.sub(other, line)


def halves(seed: int) -> tuple[list[ParsedRow], list[ParsedRow]]:
    """Readings whose templates are in the casebook (60 % of each label's), and those whose templates are not."""
    readings = [one for one in INTAKE.read(BGL, 65_536) if isinstance(one, ParsedRow)]
    space = Representation()
    known: set[str] = set()
    for label in ("normal", "anomalous"):
        templates = sorted({space.masked(one.record) for one in readings if one.label == label})
        known |= set(random.Random(seed).sample(templates, len(templates) * 6 // 10))
    return (
        [one for one in readings if space.masked(one.record) in known],
        [one for one in readings if space.masked(one.record) not in known],
    )
