"""A data frame in, the same with verdicts out."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from agent import judge_frame
from agent.core.errors import InputError, UsageError
from agent.core.settings import Settings
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.pipeline.frames import COLUMNS
from agent.pipeline.history import load_verdict
from agent.pipeline.pipeline import build
from agent.training.learn import learn
from tests.conftest import make_settings
from tests.shop import ANOMALOUS, NORMAL

ROOT = Path(__file__).resolve().parents[2]


def table(count: int) -> pl.DataFrame:
    rng = random.Random(5)
    faults = [int(i % 9 == 8) for i in range(count)]
    speeds = [round(rng.gauss(90 if fault else 40, 4), 1) for fault in faults]
    lines = [rng.choice(["north", "south"]) for _ in faults]
    schema = {"speed": pl.Float64, "line": pl.String, "fault": pl.Int64}
    return pl.DataFrame({"speed": speeds, "line": lines, "fault": faults}, schema=schema)


@pytest.fixture(scope="module")
def belts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppContext]:
    folder = tmp_path_factory.mktemp("frames")
    table(120).write_parquet(folder / "learn.parquet")
    context = AppContext(make_settings(folder / "home", model="none"))
    learn(context, [folder / "learn.parquet"], "belts", ReadOptions(label="fault"), brief="belts")
    yield context
    context.close()


def test_polars_in_polars_out(belts: AppContext) -> None:
    frame = table(18)
    judged = judge_frame(frame, "belts", context=belts)
    assert judged.columns == [*frame.columns, *COLUMNS]
    assert judged.select(frame.columns).equals(frame)
    expected = ["anomalous" if fault else "normal" for fault in frame["fault"]]
    assert judged["label"].to_list() == expected
    assert judged.schema["probability"] == pl.Float64
    assert judged["explanation"][8].startswith("anomalous")
    verdict = load_verdict(belts, judged["verdict_id"][8])
    assert (verdict.label, verdict.record.fields["speed"]) == ("anomalous", frame["speed"][8])
    single = build(belts).invoke({"source": "belts", "fields": frame.drop("fault").row(8, named=True)})
    assert (single.id, single.probability) == (verdict.id, pytest.approx(verdict.probability, abs=1e-6))


def test_pandas_in_pandas_out_with_its_index(belts: AppContext) -> None:
    of_polars = judge_frame(table(18), "belts", context=belts)
    # an index that has an entry twice, in no order
    frame = pd.DataFrame(table(18).to_dicts(), index=[7, 3, 3, *range(100, 115)])
    before = frame.copy()
    judged = judge_frame(frame, source="belts", context=belts)
    assert isinstance(judged, pd.DataFrame)
    pd.testing.assert_frame_equal(judged[frame.columns], before)
    pd.testing.assert_frame_equal(frame, before)
    assert judged["label"].tolist() == of_polars["label"].to_list()
    assert judged["verdict_id"].tolist() == of_polars["verdict_id"].to_list()
    assert judged["probability"].dtype == "float64"


def test_missing_cells_empty_rows_and_empty_frames(belts: AppContext) -> None:
    frame = pd.DataFrame({"speed": [40.0, float("nan"), None], "line": ["north", "north", None]})
    judged = judge_frame(frame, "belts", context=belts)
    assert judged["label"].iloc[0] == "normal"
    assert judged["label"].iloc[1] != "normal"
    assert "speed" in judged["degraded"].iloc[1]
    assert judged["label"].iloc[2] != "normal"
    none = judge_frame(table(0), "belts", context=belts)
    assert (none.height, none.columns[-5:]) == (0, list(COLUMNS))
    assert len(judge_frame(frame.iloc[:0], "belts", context=belts)) == 0


def test_a_row_that_cannot_be_judged_says_why(copy_of: Callable[..., Settings]) -> None:
    context = AppContext(copy_of(model="none"))
    frame = pl.DataFrame({"message": [NORMAL, "  ", None, ANOMALOUS]})
    judged = judge_frame(frame, context=context)
    assert judged["label"].to_list() == ["normal", None, None, "anomalous"]
    assert judged["probability"][1] is None
    assert "empty" in judged["explanation"][1]
    wide = frame.with_columns(host=pl.lit("h1"))
    with pytest.raises(UsageError, match="text="):
        judge_frame(wide, context=context)
    assert judge_frame(wide, text="message", context=context)["label"].to_list() == judged["label"].to_list()
    with pytest.raises(InputError, match="no column 'text'"):
        judge_frame(wide, text="text", context=context)
    # the label of this log is at place 0 of a line
    numbered = judge_frame(pd.DataFrame([[NORMAL], [ANOMALOUS]]), context=context)
    assert numbered["label"].tolist() == ["normal", "anomalous"]
    named = judge_frame(pd.DataFrame([[NORMAL, "h1"]]), text=[0], context=context)  # type: ignore[list-item]
    assert named["label"].tolist() == ["normal"]
    context.close()


def test_what_is_wrong_is_named(belts: AppContext) -> None:
    frame = table(3)
    with pytest.raises(ValueError, match="explain='bogus'"):
        judge_frame(frame, "belts", explain="bogus", context=belts)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="text names no column"):
        judge_frame(frame, "belts", text=[], context=belts)
    with pytest.raises(InputError, match="speed"):
        judge_frame(frame.rename({"speed": "velocity"}), "belts", context=belts)
    with pytest.raises(UsageError, match="prefix"):
        judge_frame(frame.with_columns(label=pl.lit("x")), "belts", context=belts)
    with pytest.warns(UserWarning, match="'label', which the cases do not have"):
        judged = judge_frame(frame.with_columns(label=pl.lit("x")), "belts", prefix="verdict_", context=belts)
    assert judged.columns[-5:] == [f"verdict_{name}" for name in COLUMNS]
    with pytest.warns(UserWarning, match="'Speed' as 'speed'"):
        assert judge_frame(frame.rename({"speed": "Speed"}), "belts", context=belts)["label"][0] == "normal"
    with pytest.raises(TypeError, match="LazyFrame"):
        judge_frame(frame.lazy(), "belts", context=belts)
    with pytest.raises(UsageError, match="two columns"):
        judge_frame(pd.DataFrame([[1, 2]], columns=["speed", "speed"]), "belts", context=belts)


def test_pandas_is_imported_only_when_it_is_given() -> None:
    code = "import sys; from agent import judge_frame; print('pandas' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
