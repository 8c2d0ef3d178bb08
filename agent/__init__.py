"""Judge records by precedent. Importing this package loads no model.

>>> from agent import chain, judge, judge_frame, PrecedentClassifier, Record, Case, Verdict   # doctest: +SKIP
>>> judge("rts: kernel terminated for reason 1004", source="bgl").label   # doctest: +SKIP
'anomalous'
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from agent.core.records import Case, Record, Verdict
    from agent.detectors.base import Detector
    from agent.pipeline.frames import judge_frame
    from agent.training.classifier import PrecedentClassifier

    chain: Runnable[Any, Verdict]

__all__ = ["Case", "Detector", "PrecedentClassifier", "Record", "Verdict", "chain", "judge", "judge_frame"]


@cache
def _chain() -> Runnable[Any, Verdict]:
    from agent.pipeline.context import default_context
    from agent.pipeline.pipeline import build

    return build(default_context())


def judge(record: Record | str, source: str | None = None) -> Verdict:
    """Judge one record with the process's settings. The verdict is not kept in the history.

    Parameters
    ----------
    record : Record or str
        A text stands for the record that has it.
    source : str, optional
        May be left out when there is only one.

    Raises
    ------
    UnknownSource, Conflict
        There is no source of that name; none was named, and there is not exactly one.
    PrecedentError
        The record cannot be judged, as where the embedding model is missing.
    """
    from agent.core.records import Record
    from agent.core.requests import JudgeRequest

    record = record if isinstance(record, Record) else Record(text=record)
    return _chain().invoke(JudgeRequest(**record.model_dump(), source=source))


def __getattr__(name: str) -> Any:
    if name == "chain":
        return _chain()
    if name in ("Case", "Record", "Verdict"):
        from agent.core import records

        return getattr(records, name)
    if name == "Detector":
        from agent.detectors.base import Detector

        return Detector
    if name == "judge_frame":
        from agent.pipeline.frames import judge_frame

        return judge_frame
    if name == "PrecedentClassifier":
        from agent.training.classifier import PrecedentClassifier

        return PrecedentClassifier
    raise AttributeError(f"module 'agent' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
