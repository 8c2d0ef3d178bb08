"""Groups with their verdicts, of which as little is kept as later records need."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agent.bulk.group_judge import GroupJudge, Result
from agent.bulk.output import LineFormatter
from agent.bulk.template_grouping import TemplateGroup, TemplateGrouper
from agent.bulk.traits import TRAITS, traits_of
from agent.core.records import Record, Verdict

# groups that are judged together; groups, and verdicts kept of them, beyond which all are forgotten
_TOGETHER, _MOST_GROUPS, _MOST_VERDICTS = 4_096, 500_000, 30_000
_FORGOTTEN = Record(text="forgotten")


class JudgedGroups:
    """The groups of a run by their numbers.

    Of a normal group, which no summary lists, the verdict is not kept unless whole verdicts are written. When too much
    is kept all groups are forgotten: those that come again get the verdicts that are stored.

    Parameters
    ----------
    grouper, judge, formatter
    keeps_all : bool
        Whether groups are judged all together and never forgotten: a budget is for all of them.
    is_full : bool
        Whether whole verdicts are written.
    """

    def __init__(
        self,
        grouper: TemplateGrouper,
        judge: GroupJudge,
        formatter: LineFormatter,
        *,
        keeps_all: bool,
        is_full: bool,
    ) -> None:
        self._grouper, self._judge, self._formatter = grouper, judge, formatter
        self._keeps_all, self._is_full = keeps_all, is_full
        self._verdicts: dict[int, Verdict] = {}
        self.traits = np.zeros(0, TRAITS)

    def judge_new(self) -> Iterator[tuple[TemplateGroup, Result]]:
        """Judge the groups that have no verdict yet; yields them in order."""
        groups = self._grouper.groups
        while (first := len(self.traits)) < len(groups):
            new = groups[first : None if self._keeps_all else first + _TOGETHER]
            results = self._judge.verdicts(new)
            traits = traits_of(results)
            self.traits = np.concatenate([self.traits, traits])
            for number, (group, result) in enumerate(zip(new, results, strict=True), start=first):
                self._formatter.add_group(result, group.name)
                is_listed = traits["label"][number - first] != 0 or traits["is_degraded"][number - first]
                if isinstance(result, Verdict) and (is_listed or self._is_full):
                    self._verdicts[number] = result
                yield group, result
                group.first = _FORGOTTEN

    def template(self, number: int) -> str:
        """The short id of a group's template."""
        return self._grouper.groups[number].template_id

    def verdict(self, number: int) -> Verdict:
        """The verdict of a group that is not normal, or lacks a signal."""
        return self._verdicts[number]

    def forget_if_full(self) -> None:
        """Forget all groups, between two parts of the input, if more than a number is kept."""
        if self._keeps_all or (len(self.traits) <= _MOST_GROUPS and len(self._verdicts) <= _MOST_VERDICTS):
            return
        self._grouper.forget()
        self._formatter.forget()
        self._verdicts.clear()
        self.traits = self.traits[:0]
