"""The reasoning, from a record to a verdict. Importing this loads no model.

>>> from agent import chain, judge, Record, Case, Verdict   # doctest: +SKIP
>>> judge("rts: kernel terminated for reason 1004", source="bgl").label   # doctest: +SKIP
'anomalous'
"""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from agent.records import Case, Record, Verdict

    chain: Runnable[Any, Verdict]

__all__ = ["Case", "Record", "Verdict", "chain", "judge"]


@cache
def _chain() -> Runnable[Any, Verdict]:
    from agent.chain import build
    from agent.parts import default_parts

    return build(default_parts())


def judge(record: Record | str, source: str | None = None) -> Verdict:
    """The verdict on one record, with the process's settings; ``source`` may be left out when there is only one."""
    from agent.question import Question
    from agent.records import Record

    record = record if isinstance(record, Record) else Record(text=record)
    return _chain().invoke(Question(**record.model_dump(), source=source))


class _Package(ModuleType):
    """`agent.chain` is a file to read and an object to call: the import of the file must not hide the object."""

    @property
    def chain(self) -> Runnable[Any, Verdict]:
        return _chain()

    @chain.setter
    def chain(self, module: ModuleType) -> None:
        """What the import system says when it has loaded the file; `from agent.chain import …` works all the same."""

    def __getattr__(self, name: str) -> Any:
        if name in ("Case", "Record", "Verdict"):
            from agent import records

            return getattr(records, name)
        raise AttributeError(f"module 'agent' has no attribute {name!r}")


sys.modules[__name__].__class__ = _Package
