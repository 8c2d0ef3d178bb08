"""Short lines that are made by array are those of single records."""

from __future__ import annotations

import json
import random

import numpy as np

from agent.bulk.row_lines import json_lines, rounded_texts


def test_probabilities_are_written_as_by_python() -> None:
    rng = random.Random(1)
    values = [rng.random() ** rng.choice([1, 5, 20]) for _ in range(5_000)]
    values += [0.0, 1.0, 5e-7, 4.9999e-7, 9.95e-5, 9.949e-5, 0.9999995, *((k + 0.5) / 1e6 for k in range(2_000))]
    assert rounded_texts(np.array(values)).to_list() == [str(round(value, 6)) for value in values]


def test_lines_of_json() -> None:
    lines = json_lines(
        '{"file": "a{}.csv", "line": ', np.array([7, 0]), ["normal", "unsure"], rounded_texts(np.array([0.25, 1e-5])),
        ["t1", "t2"], ["", ', "degraded": ["fields: {no} value"]'],
    )  # fmt: skip
    assert list(map(json.loads, lines.splitlines())) == [
        {"file": "a{}.csv", "line": 7, "label": "normal", "probability": 0.25, "template": "t1"},
        {
            "file": "a{}.csv",
            "line": None,
            "label": "unsure",
            "probability": 1e-05,
            "template": "t2",
            "degraded": ["fields: {no} value"],
        },
    ]
    assert json_lines("", np.zeros(0, np.int64), [], rounded_texts(np.zeros(0)), [], []) == b""
