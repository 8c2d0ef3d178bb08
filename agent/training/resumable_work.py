"""The folder of a training that can be stopped, and the plan that one must share to go on with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.core.errors import UsageError

WORK = "work"
_PLAN = "plan.json"


def prepare_work(folder: Path, plan: Mapping[str, Any], source: str, trained: str, *, resume: bool) -> Path:
    """The folder of the work: empty, or that of the training to go on with.

    Parameters
    ----------
    folder : Path
        Where the folder is.
    plan : mapping
        What the trainings must share, as JSON.
    source, trained : str
        The source, and what is trained for it, as messages name them.
    resume : bool
        Whether to go on with a training that was stopped.

    Raises
    ------
    UsageError
        There is no such training, or it was of other cases or options.
    """
    work = folder / WORK
    if resume:
        if not (work / _PLAN).is_file():
            raise UsageError(f"no training of {trained} was stopped: leave --resume out")
        before = json.loads((work / _PLAN).read_text(encoding="utf-8"))
        if changed := sorted(name for name in plan if before.get(name) != plan[name]):
            raise UsageError(f"the stopped training of {source} had other {', '.join(changed)}: leave --resume out")
        return work
    if work.is_dir():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    (work / _PLAN).write_text(json.dumps(plan), encoding="utf-8")
    return work
