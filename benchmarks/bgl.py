"""BGL_2k, parsed lines of a supercomputer's log: read, described, and parted by template."""

from __future__ import annotations

import random
from pathlib import Path

from agent.intake import Intake
from agent.readers import Reading
from retrieval.space import Space

BGL = Path(__file__).resolve().parents[2] / "shared" / "data" / "logs" / "bgl" / "BGL_2k.log_structured.csv"
BRIEF = (
    "Messages of the RAS log of a BlueGene/L supercomputer. Normal: informational messages, corrected errors, and "
    "generated core files. Anomalous: alerts about failures of hardware, kernel, network, file system or jobs."
)
INTAKE = Intake(format="csv", label="Label", normal=("-",), text=("Content",))
# what each line of the log says beside time and place
WHOLE = INTAKE.model_copy(update={"text": ("Component", "Level", "Content")})


def halves(seed: int) -> tuple[list[Reading], list[Reading]]:
    """Readings whose templates are in the casebook (60 % of each label's), and those whose templates are not."""
    readings = [one for one in INTAKE.read(BGL, 65_536) if isinstance(one, Reading)]
    space = Space()
    known: set[str] = set()
    for label in ("normal", "anomalous"):
        templates = sorted({space.masked(one.record) for one in readings if one.label == label})
        known |= set(random.Random(seed).sample(templates, len(templates) * 6 // 10))
    return (
        [one for one in readings if space.masked(one.record) in known],
        [one for one in readings if space.masked(one.record) not in known],
    )
