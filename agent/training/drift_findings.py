"""The drift of a source: the figures, the tests, and what to act on, in words."""

from __future__ import annotations

import math

from pydantic import BaseModel

from agent.training.drift_tests import DriftTest

_SHOWN = 3
_NAME_CHARS = 60


class Drift(BaseModel):
    """Drift of a source over its newest 1,000 verdicts.

    Shares are between 0 and 1, or None if there is nothing to take a share of.

    Attributes
    ----------
    records : int
        Different records among the verdicts; of each, the newest verdict counts.
    earlier : int
        Records of the verdicts that the verdicts on them are compared with: the 2,000 before them by the same fit, or
        the older half where there are none.
    novel_share, novel_expected : float or None
        Share of different contents whose template no case has, and the share expected if they resembled the cases.
        None if the source is represented by fields.
    field_psi : dict[str, float]
        Population stability index of each field, the largest first; 0 is no change.
    unsure_share, anomalous_share, anomalous_expected : float or None
    decided, corrected, contradicted : int
        Decided verdicts of the present fit, those that a person corrected or confirmed, and those contradicted.
    contradicted_share : float or None
        Share of corrected ones that the person contradicted.
    tests : list of DriftTest
        Empty below 50 records.
    findings : list[str]
        What to act on, and how; empty below 50 records.
    """

    records: int
    earlier: int = 0
    novel_share: float | None = None
    novel_expected: float | None = None
    field_psi: dict[str, float] = {}
    unsure_share: float | None = None
    anomalous_share: float | None = None
    anomalous_expected: float | None = None
    decided: int = 0
    corrected: int = 0
    contradicted: int = 0
    contradicted_share: float | None = None
    tests: list[DriftTest] = []
    findings: list[str] = []

    @property
    def alarms(self) -> list[DriftTest]:
        """The tests that found drift."""
        return [test for test in self.tests if test.alarm]

    @property
    def score(self) -> float | None:
        """Minus the decimal logarithm of the smallest p-value of an alarm, at most 16; 0 without, None if untested."""
        if not self.tests:
            return None
        return max((min(16.0, -math.log10(max(test.p_value, 1e-300))) for test in self.alarms), default=0.0)


def findings(drift: Drift, risk: float) -> list[str]:
    """What to act on, and how."""
    lately = f"the last {drift.records:,} records"
    alarms = {test.of: test for test in drift.alarms}
    texts = []
    if "templates" in alarms:
        texts.append(
            f"{_percent(drift.novel_share)} of what {lately} say has templates that the casebook has never seen "
            f"({_percent(drift.novel_expected)} if they were like the cases): learn them as a source of their own "
            f"if they come from another system, else label some"
        )
    fields = [test for test in drift.alarms if test.of.startswith("field ")]
    if fields:
        fields.sort(key=lambda test: (test.p_value, -test.recent))
        moved = [f"{test.of.removeprefix('field ')[:_NAME_CHARS]} ({test.recent:.2f})" for test in fields]
        rest = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        texts.append(
            f"fields of {lately} are distributed otherwise than the cases' (0 is alike, 1 wholly different): "
            f"{', '.join(moved[:_SHOWN])}{rest}: learn newer cases and rebuild the source"
        )
    if "distance" in alarms and not fields:
        texts.append(f"{lately} are farther from every case than the cases are from each other: label some")
    if (test := alarms.get("unsure")) is not None:
        change = f"{_percent(test.recent)} of the newest records are unsure, {_percent(test.reference)} were before"
        texts.append(f"{change}: label some")
    texts += _on_verdicts(drift, alarms, lately)
    if (test := alarms.get("corrections")) is not None:
        texts.append(
            f"people contradicted {_percent(test.recent)} of the decided verdicts on {lately}, and no more than "
            f"{_percent(risk)} should be wrong: rebuild the source"
        )
    return texts


def _on_verdicts(drift: Drift, alarms: dict[str, DriftTest], lately: str) -> list[str]:
    """How the verdicts changed."""
    if (test := alarms.get("anomalous")) is not None:
        change = f"{_percent(test.recent)} of the newest records are anomalous, {_percent(test.reference)} were before"
        return [f"{change}: correct those that are not"]
    if _far_more(drift.anomalous_share, drift.anomalous_expected, by=0.2):
        return [
            f"{_percent(drift.anomalous_share)} of {lately} are anomalous, {_percent(drift.anomalous_expected)} of the "
            "cases are: correct those that are not"
        ]
    if "probability" in alarms and not {"unsure", "templates", "distance"} & set(alarms):
        return ["the probabilities of the newest records are distributed otherwise than before: label some"]
    return []


def _far_more(share: float | None, expected: float | None, by: float) -> bool:
    return share is not None and expected is not None and share > max(2 * expected, expected + by)


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0.0):.0f} %"
