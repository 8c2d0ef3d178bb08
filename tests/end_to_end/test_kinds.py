"""Every kind of file: learned by the command, judged by it, with few and with many anomalies among the cases."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import polars as pl
import pytest

from agent.core.errors import InputError, UsageError
from agent.core.records import Verdict
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.learn import learn
from tests.conftest import make_settings

Row = dict[str, object]


def orders(count: int, every: int) -> list[Row]:
    """Orders of which each ``every``-th is fraud: many pieces at a high price."""
    rng = random.Random(5)
    rows: list[Row] = []
    for i in range(count):
        bad = i % every == every - 1
        qty, price = (rng.randint(80, 120), rng.uniform(900, 999)) if bad else (rng.randint(1, 4), rng.uniform(5, 40))
        country, verdict = rng.choice(["DE", "FR", "IT"]), "fraud" if bad else "ok"
        rows.append({"qty": qty, "price": round(price, 2), "country": country, "verdict": verdict})
    return rows


def sessions(count: int, every: int) -> list[Row]:
    rng = random.Random(6)
    rows: list[Row] = []
    for i in range(count):
        bad = i % every == every - 1
        events = ["login", *rng.choices(["read", "write", "list"], k=4), *(["format disk"] * 3 if bad else ["logout"])]
        rows.append({"events": events, "verdict": "fraud" if bad else "ok"})
    return rows


def write(folder: Path, kind: str, rows: list[Row], name: str) -> Path:
    path = folder / f"{name}.{'jsonl' if kind in ('flat', 'nested', 'sessions') else kind}"
    if kind == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    elif kind == "parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        if kind == "nested":
            rows = [{"verdict": row.pop("verdict"), "order": row} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("every", [25, 5], ids=["few anomalies", "many anomalies"])
@pytest.mark.parametrize("kind", ["csv", "flat", "nested", "sessions", "parquet"])
def test_learned_and_judged(tmp_path: Path, kind: str, every: int) -> None:
    make = sessions if kind == "sessions" else orders
    learned, unseen = make(100, every), make(150, every)[100:]
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    intake = ReadOptions(label="verdict", normal=("ok",))
    done = learn(context, [write(tmp_path, kind, learned, "cases")], "s", intake, brief="Orders.")
    assert (done.read, done.labels["anomalous"]) == (100, 100 // every)
    readings = [one for one in intake.read(write(tmp_path, kind, unseen, "new"), 65_536) if isinstance(one, ParsedRow)]
    verdicts = list(judge_many(context, build(context), (one.record for one in readings), "s"))
    context.close()
    assert len(verdicts) == 50
    probabilities: dict[str, list[float]] = {"normal": [], "anomalous": []}
    for reading, verdict in zip(readings, verdicts, strict=True):
        assert isinstance(verdict, Verdict)
        assert verdict.signals["fields"] is not None
        assert not any(one.startswith("fusion") for one in verdict.degraded)
        assert reading.label is not None
        probabilities[reading.label].append(verdict.probability)
    # always saying normal is right 48 times of 50 where anomalies are few: each label is counted by itself
    assert len(probabilities["anomalous"]) == 50 // every
    assert min(probabilities["anomalous"]) > 0.5
    assert sum(probability > 0.5 for probability in probabilities["normal"]) <= 3


def test_a_source_that_was_never_fitted_says_so(tmp_path: Path) -> None:
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    intake = ReadOptions(label="verdict", normal=("ok",))
    learn(context, [write(tmp_path, "csv", orders(60, 6), "cases")], "s", intake, brief="Orders.")
    context.casebook.set("s", source_model=None)
    verdict = build(context).invoke({"source": "s", "fields": {"qty": 3, "price": 9.5, "country": "DE"}})
    context.close()
    assert any("was never fitted" in reason for reason in verdict.degraded)


def test_a_number_for_a_column_that_has_a_name_is_refused(tmp_path: Path) -> None:
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    path = write(tmp_path, "csv", orders(60, 6), "cases")
    with pytest.raises(InputError, match=r"has a header: name a column .* verdict"):
        learn(context, [path], "s", ReadOptions(label="3", normal=("ok",)), brief="Orders.")
    context.close()


def test_labels_none_of_which_means_normal_are_refused_before_anything_is_learned(tmp_path: Path) -> None:
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    path = write(tmp_path, "csv", orders(60, 6), "cases")
    with pytest.raises(UsageError, match="--normal VALUE; it holds ok, fraud"):
        learn(context, [path], "s", ReadOptions(label="verdict"), brief="Orders.")
    assert context.casebook.names() == []
    context.close()
