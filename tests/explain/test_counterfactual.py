"""What would make a record normal: true when judged again, short, and not said where nothing was found."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import Runnable

from agent.core.records import Record, Verdict
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.detectors.tabular import TabularModel
from agent.explain.counterfactual import FeatureChange, Perturbation, counterfactual, moved, moved_row, smallest_change
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.scoring.fusion import SourceModel
from agent.training.learn import learn
from benchmarks.tracing import Evidence, untraced, wrong_clauses
from retrieval.encoding.field_encoder import EventCount, FieldEncoder, features
from tests.conftest import make_settings

SAID = re.compile(r"would be normal if (.*? \(it is [^)]*\))(?: and (.*? \(it is [^)]*\)))?(?:;|\.$)")
ONE = re.compile(r"(.+) were (\S+|“.*”) \(it is (.+?)(?:, the first ones kept|, more at its end)?\)")
LOGIN, READ, FORMAT = "login", "read", "format disk"


def an_order(rng: random.Random, fraud: bool) -> dict[str, float | str]:
    """Fraud is many pieces from abroad; either alone is not, and the price says nothing."""
    country = "XX" if fraud else rng.choice(["DE", "FR", "IT", "XX"])
    pieces = rng.randint(60, 200) if fraud else rng.randint(1, 40 if country == "XX" else 200)
    return {"pieces": pieces, "price": round(rng.uniform(5, 99), 2), "country": country}


def a_session(rng: random.Random, fraud: bool) -> list[str]:
    return [LOGIN, *[READ] * rng.randint(2, 6), *([FORMAT] * rng.randint(3, 6) if fraud else ["logout"])]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppContext]:
    """Sources `orders` and `sessions` of 300 cases each, a quarter fraud."""
    home = tmp_path_factory.mktemp("counterfactual")
    context = AppContext(make_settings(home / "home", model="none"))
    rng = random.Random(8)
    orders = [{**an_order(rng, i % 4 == 0), "label": int(i % 4 == 0)} for i in range(300)]
    sessions = [{"events": a_session(rng, i % 4 == 0), "label": int(i % 4 == 0)} for i in range(300)]
    for name, rows in (("orders", orders), ("sessions", sessions)):
        path = home / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        learn(context, [path], name, ReadOptions(label="label", normal=("0",)), brief=name)
    yield context
    context.close()


@pytest.fixture(scope="module")
def chain(opened: AppContext) -> Runnable[JudgeRequest, Verdict]:
    return build(opened)


def told(verdict: Verdict) -> list[tuple[str, str, str]]:
    """Name, new value and old value of each change that the explanation speaks of."""
    said = SAID.search(verdict.explanation)
    return [ONE.fullmatch(one).groups() for one in said.groups() if one] if said else []  # type: ignore[union-attr]


def test_an_order_changed_as_the_sentence_says_is_judged_normal(chain: Runnable[JudgeRequest, Verdict]) -> None:
    rng, seen = random.Random(9), 0
    for _ in range(20):
        fields = an_order(rng, fraud=True)
        verdict = chain.invoke(JudgeRequest(source="orders", fields=fields))
        changes = told(verdict)
        if verdict.label == "normal" or not changes:
            continue
        seen += 1
        for name, new, old in changes:
            assert old.strip("“”") == str(fields[name])
            fields[name] = new.strip("“”") if name == "country" else float(new)
        assert chain.invoke(JudgeRequest(source="orders", fields=fields)).label == "normal"
    assert seen >= 15


def test_the_change_is_the_telling_field_and_no_further_than_it_must(chain: Runnable[JudgeRequest, Verdict]) -> None:
    verdict = chain.invoke(JudgeRequest(source="orders", fields={"pieces": 190, "price": 50.0, "country": "XX"}))
    assert verdict.label == "anomalous"
    ((name, new, _),) = told(verdict)
    # each of the two is normal without the other
    if name == "country":
        assert new.strip("“”") in {"DE", "FR", "IT"}
    else:
        assert name == "pieces"
        assert 35 <= float(new) < 62


def test_a_session_changed_as_the_sentence_says_is_judged_normal(chain: Runnable[JudgeRequest, Verdict]) -> None:
    verdict = chain.invoke(JudgeRequest(source="sessions", events=(LOGIN, READ, READ, "logout", *[FORMAT] * 9)))
    assert verdict.label != "normal"
    changes = told(verdict)
    assert changes, verdict.explanation
    events = [LOGIN, READ, READ, "logout", *[FORMAT] * 9]
    for name, new, old in changes:
        event = name.removeprefix("count of ").strip("“”")
        assert events.count(event) == int(old)
        events = [one for one in events if one != event] + [event] * int(new)
    assert chain.invoke(JudgeRequest(source="sessions", events=tuple(events))).label == "normal"


def test_of_a_normal_record_or_when_no_explanation_is_asked_nothing_is_said(
    chain: Runnable[JudgeRequest, Verdict],
) -> None:
    normal = chain.invoke(JudgeRequest(source="orders", fields={"pieces": 3, "price": 50.0, "country": "DE"}))
    assert normal.label == "normal"
    assert "would be normal" not in normal.explanation
    fraud = {"pieces": 190, "price": 50.0, "country": "XX"}
    assert chain.invoke(JudgeRequest(source="orders", fields=fraud, explain="none")).explanation == ""


def test_a_false_number_or_name_in_an_explanation_is_found(
    chain: Runnable[JudgeRequest, Verdict], opened: AppContext
) -> None:
    """The checker of `benchmarks.faithfulness` passes what the chain says, and nothing that was altered."""
    row = opened.casebook.source("orders")
    assert row is not None
    fields = {"pieces": 190.0, "price": 50.0, "country": "XX"}
    text = " ".join(f"{name} is {value}" for name, value in fields.items())
    verdict = chain.invoke(JudgeRequest(source="orders", text=text, fields=fields))
    ground = Evidence(verdict, row, opened.casebook.cases("orders"), chain)
    assert "would be normal if" in verdict.explanation
    assert list(wrong_clauses(ground)) == []
    for digit in re.finditer(r"\d", verdict.explanation):
        at = digit.start()
        # a counterfactual may be true of another number, too
        if "would be normal" in verdict.explanation[:at].rpartition("; ")[2]:
            continue
        altered = verdict.explanation[:at] + str((int(digit[0]) + 5) % 10) + verdict.explanation[at + 1 :]
        lie = replace(ground, verdict=verdict.model_copy(update={"explanation": altered}))
        assert list(wrong_clauses(lie)), altered
    assert list(untraced("Case c9999 says so.", ground))
    assert list(untraced("It has 191 pieces.", ground))
    assert not list(untraced(f"It has 190 pieces, as {verdict.precedents[0].case_id} shows.", ground))


def a_retrial(is_normal: object) -> tuple[Perturbation, FieldEncoder]:
    rng = random.Random(10)
    anomalous = [i % 4 == 0 for i in range(300)]
    rows = [an_order(rng, one) for one in anomalous]
    model, _ = TabularModel.fit(rows, [()] * 300, anomalous, [None] * 300, [1] * 300)
    assert model is not None
    normal = FieldEncoder.fit([row for row, one in zip(rows, anomalous, strict=True) if not one])
    record = Record(text="", fields={"pieces": 190.0, "price": 50.0, "country": "XX"})
    signals = {
        "neighbours": None,
        "novelty": None,
        "fields": model.signals([record.fields], [()])[0][0],
        "language": None,
    }
    return Perturbation(record, model, SourceModel(), signals, is_normal), normal  # type: ignore[arg-type]


def test_what_the_field_model_promises_is_not_said_unless_judged_so() -> None:
    judged: list[Record] = []

    def never(record: Record) -> bool:
        judged.append(record)
        return False

    retrial, normal = a_retrial(never)
    assert counterfactual(retrial, normal, ()) is None
    assert 2 <= len(judged) <= 4


def test_fields_that_are_kept_are_not_changed() -> None:
    retrial, normal = a_retrial(lambda _: True)
    said = counterfactual(retrial, normal, ("country",))
    assert said is not None
    assert "pieces" in said
    assert counterfactual(retrial, normal, ("country", "pieces", "price")) is None


def test_the_nearest_of_several_changes_is_chosen() -> None:
    retrial, _ = a_retrial(lambda _: True)
    near, far = FeatureChange("pieces", 190.0, 20.0, 0.3), FeatureChange("country", "XX", "DE", 1.0)
    (chosen,) = smallest_change(retrial, [far, near])
    assert chosen.name == "pieces"
    assert 20 <= float(chosen.new) < 62


def test_a_column_named_like_an_event_count_is_missing_where_it_is_missing(tmp_path: Path) -> None:
    """A user's column "count of x" is a column to every part: encoder, trees, facts, drift, counterfactuals."""
    rng = random.Random(12)
    rows = [{"count of x": rng.randint(80, 99) if i % 4 == 0 else rng.randint(50, 60), "y": i % 7} for i in range(300)]
    lines = [json.dumps({**row, "label": int(i % 4 == 0)}) for i, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    learn(context, [tmp_path / "rows.jsonl"], "rows", ReadOptions(label="label", normal=("0",)), brief="rows")
    judge = build(context)
    verdict = judge.invoke(JudgeRequest(source="rows", fields={"y": 3.0}))
    assert "count of x is 0" not in verdict.explanation
    assert "count of x were" not in verdict.explanation or "(it is missing)" in verdict.explanation
    high = judge.invoke(JudgeRequest(source="rows", fields={"count of x": 95.5, "y": 3.0}))
    assert high.label == "anomalous"
    assert "count of x is 95.5, above all normal cases" in high.explanation
    assert re.search(r"would be normal if count of x were \d+ \(it is 95\.5\)", high.explanation), high.explanation
    context.close()


EVENTS = st.lists(st.sampled_from([LOGIN, READ, FORMAT, "node 7 up", "node 12 up"]), min_size=1, max_size=8)


@given(EVENTS, st.sampled_from([LOGIN, READ, FORMAT, "node <n> up", "never seen"]), st.integers(0, 4))
def test_the_features_of_a_moved_session_are_those_that_are_judged(events: list[str], event: str, count: int) -> None:
    record = Record(text=" ; ".join(events), events=tuple(events))
    before = features({}, events)
    name = EventCount(event)
    moves = (FeatureChange(name, before.get(name, 0.0), float(count), 1.0),)
    after = moved(record, moves)
    assert after.text == " ; ".join(after.events)
    expected = features({}, after.events)
    got = moved_row(before, moves)
    if after.events:
        assert {key: value for key, value in got.items() if value} == expected


def test_the_text_of_a_changed_row_is_that_of_its_fields() -> None:
    changes = (FeatureChange("size", 3.0, 4.0, 0.1),)
    row = Record(text="size is 3 place is the far shelf", fields={"size": 3.0, "place": "the far shelf"})
    assert moved(row, changes).text == "size is 4 place is the far shelf"
    described = row.model_copy(update={"text": "a box on the far shelf"})
    assert moved(described, changes).text == described.text
