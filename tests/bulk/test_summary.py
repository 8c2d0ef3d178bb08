"""Where a template is seen first and last, whichever groups share it, over chunks, files and resumed runs."""

from __future__ import annotations

import numpy as np
import pytest

from agent.bulk.summary import Summary
from agent.core.records import VERDICT_LABELS, Provenance, Record, Verdict

NORMAL, ANOMALOUS, UNSURE = range(3)


def verdict(label: int, text: str) -> Verdict:
    return Verdict(
        id="v1",
        source="svc",
        label=VERDICT_LABELS[label],
        probability=0.9,
        unsure_band=(0.2, 0.6),
        explanation="",
        signals=dict.fromkeys(("language", "neighbours", "novelty", "fields")),
        record=Record(text=text),
        provenance=Provenance(model=None, model_sha256=None, prompt_sha256="", casebook_version=1),
        elapsed_ms=0.0,
    )


def add(summary: Summary, file: str, start: int, slots: list[int], labels: list[int]) -> None:
    """Records from line ``start`` on; ``labels``: the label of each slot; all slots have template ``t``."""
    numbers = np.array(slots, np.int32)
    summary.add(
        file,
        np.arange(start, start + len(slots), dtype=np.int64),
        np.array(labels, np.int8)[numbers],
        numbers,
        lambda slot: "t",
        lambda slot: verdict(labels[slot], f"slot {slot}"),
        lambda places: [None] * len(places),
    )


# slot 0 is met first by its template, slot 1 is a case whose text has a verdict of its own
@pytest.mark.parametrize(
    ("slots", "first", "last", "text"),
    [
        ([0, 1, 1, 0], 1, 4, "slot 0"),
        ([1, 0, 0, 1], 1, 4, "slot 1"),
        ([1, 0, 1, 0], 1, 4, "slot 1"),
        ([1], 1, 1, "slot 1"),
    ],
)
def test_first_and_last_are_those_of_the_input(slots: list[int], first: int, last: int, text: str) -> None:
    summary = Summary(source="svc")
    add(summary, "a.log", 1, slots, [ANOMALOUS, ANOMALOUS])
    (group,) = summary.groups.values()
    assert (group.first.line, group.last.line, group.count) == (first, last, len(slots))
    assert group.verdict.record.text == text, "the verdict is that of the first record"


def test_over_files_and_a_resumed_run() -> None:
    summary = Summary(source="svc")
    add(summary, "a.log", 5, [1, 0], [ANOMALOUS, ANOMALOUS])
    summary = Summary.model_validate(summary.model_dump(mode="json"))
    add(summary, "a.log", 7, [0, 1, 0], [ANOMALOUS, ANOMALOUS])
    add(summary, "b.log", 2, [1, 0, 1], [ANOMALOUS, ANOMALOUS])
    (group,) = summary.groups.values()
    assert (str(group.first), str(group.last), group.count) == ("a.log:5", "b.log:4", 8)


def test_a_template_with_two_labels_is_counted_under_each() -> None:
    summary = Summary(source="svc")
    add(summary, "a.log", 1, [0, 1, 2, 0, 1], [ANOMALOUS, UNSURE, NORMAL])
    for label, first, last in (("anomalous", 1, 4), ("unsure", 2, 5)):
        (group,) = summary.ranked(label)
        assert (group.first.line, group.last.line, group.count) == (first, last, summary.counts[label])


def test_what_is_merged_is_bounded_like_what_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.bulk.summary._MOST_GROUPS", 3)
    monkeypatch.setattr("agent.bulk.summary._KEPT_GROUPS", 2)
    whole = Summary(source="svc")
    for part in range(5):
        of_part = Summary(source="svc", unlisted=1)
        of_part.add(
            "a.log",
            np.arange(1, 2, dtype=np.int64),
            np.array([ANOMALOUS], np.int8),
            np.zeros(1, np.int32),
            lambda _, part=part: f"t{part}",  # type: ignore[misc]
            lambda _: verdict(ANOMALOUS, "x"),
            lambda _: [None],
        )
        whole.merge(of_part)
    assert len(whole.groups) <= 3
    assert len(whole.groups) + whole.unlisted == 5 + 5
