"""What of a record's fields cannot be read as the cases' is named, and such a record is never called normal."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.core.records import Record, Verdict
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.data.readers.table_schema import LearnedColumn, TableSchema
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.learn import as_case, learn
from agent.training.refit import refit
from tests import shop
from tests.conftest import make_settings

CASES = 150


def pump(rng: random.Random, *, bad: bool) -> dict[str, Any]:
    """A pump's readings: the pressure shows a fault, nothing else does."""
    row = {name: round(rng.gauss(20, 2), 2) for name in ("inlet", "outlet", "flow", "noise")}
    return {"pressure": round(rng.gauss(9 if bad else 3, 0.3), 2), **row, "mode": rng.choice(["auto", "hand"])}


def shift(rng: random.Random, *, bad: bool) -> dict[str, Any]:
    events = ["start", *rng.choices(["load", "mix", "drain"], k=4), "stop"]
    return {"events": events + ["overheat"] * (3 if bad else 0)}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppContext]:
    """Pumps with faults and without, and shifts."""
    home, rng = tmp_path_factory.mktemp("fields"), random.Random(4)
    context = AppContext(make_settings(home / "home", model="none"))
    for source, make, every in (("pumps", pump, 8), ("healthy", pump, CASES + 1), ("shifts", shift, 8)):
        rows = [{**make(rng, bad=i % every == 7), "fault": int(i % every == 7)} for i in range(CASES)]
        path = home / f"{source}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        learn(context, [path], source, ReadOptions(label="fault"))
    path = home / "shop.log"
    path.write_text(shop.LOG, encoding="utf-8")
    learn(context, [path], "shop", ReadOptions(format="log", label="0", normal=("-",)))
    yield context
    context.close()


def judged(context: AppContext, source: str, **changes: Any) -> Verdict:
    fields = {**pump(random.Random(99), bad=False), **changes}
    kept = {name: value for name, value in fields.items() if value != "absent"}
    return build(context).invoke({"source": source, "fields": kept})


@pytest.mark.parametrize("source", ["pumps", "healthy"])
def test_a_record_whose_columns_are_all_there_is_normal(context: AppContext, source: str) -> None:
    verdict = judged(context, source)
    assert (verdict.label, verdict.degraded) == ("normal", ())


@pytest.mark.parametrize("source", ["pumps", "healthy"])
@pytest.mark.parametrize("word", ["OVERFLOW", "#N/A", "ERR", "inf", "-inf", "3.1 bar", "3,1", float("inf")])
def test_a_word_in_place_of_a_number_is_named_and_never_normal(context: AppContext, source: str, word: Any) -> None:
    verdict = judged(context, source, flow=word)
    assert verdict.label != "normal"
    assert verdict.degraded[0].startswith("fields: flow is ")


@pytest.mark.parametrize("missing", [None, "absent", float("nan")])
def test_a_missing_number_that_could_show_an_anomaly_is_never_normal(context: AppContext, missing: Any) -> None:
    verdict = judged(context, "pumps", pressure=missing)
    assert verdict.label == "unsure"
    assert verdict.degraded == ("fields: no value of pressure, which the cases have",)


def test_a_missing_number_that_shows_nothing_is_named_only(context: AppContext) -> None:
    verdict = judged(context, "pumps", noise="absent")
    assert verdict.label == "normal"
    assert verdict.degraded == ("fields: no value of noise, which the cases have",)


def test_without_anomalous_cases_any_missing_number_may_show_one(context: AppContext) -> None:
    assert judged(context, "healthy", noise="absent").label == "unsure"


@pytest.mark.parametrize("changes", [{"mode": "remote"}, {"noise": 900.0}])
def test_a_value_unlike_every_case_is_never_normal(context: AppContext, changes: dict[str, Any]) -> None:
    assert judged(context, "pumps", **changes).label != "normal"


@pytest.mark.parametrize("source", ["pumps", "healthy"])
def test_a_record_of_another_table_is_never_normal(context: AppContext, source: str) -> None:
    chain = build(context)
    for sent in ({"fields": {"user": "n1", "ok": False}}, {"text": "user n1 logged in"}):
        verdict = chain.invoke({"source": source, **sent})
        assert verdict.label != "normal"
        assert any("no value of flow, inlet" in reason for reason in verdict.degraded), verdict.degraded


def test_an_event_that_no_session_has_is_never_normal(context: AppContext) -> None:
    known = shift(random.Random(8), bad=False)["events"]
    chain = build(context)
    verdict = chain.invoke(Record(text=" ; ".join(known), events=tuple(known)).model_dump() | {"source": "shifts"})
    assert verdict.label == "normal"
    changed = [*known[:-1], "fire alarm", known[-1]]
    verdict = chain.invoke({"source": "shifts", "text": " ; ".join(changed), "events": changed})
    assert verdict.label != "normal"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"noise": 9.0}, "noise is 9, far from all cases"),
        ({"pressure": 0.2}, "pressure is 0.2, far from all cases"),
        ({"mode": "remote"}, "mode is “remote”, which no case has"),
    ],
)
def test_a_value_that_keeps_a_verdict_from_being_normal_is_named(
    context: AppContext, changes: dict[str, Any], named: str
) -> None:
    verdict = judged(context, "pumps", **changes)
    assert verdict.label == "unsure"
    assert any(reason.startswith(f"fields: {named}") for reason in verdict.degraded), verdict.degraded


def test_a_text_that_spells_out_an_unknown_category_names_it(context: AppContext) -> None:
    spelled = " ".join(
        f"{name} is {value}" for name, value in {**pump(random.Random(99), bad=False), "mode": "weird"}.items()
    )
    verdict = build(context).invoke({"source": "pumps", "text": spelled})
    assert (verdict.label, verdict.degraded) == ("unsure", ("fields: mode is “weird”, which no case has",))


@pytest.mark.parametrize("source", ["pumps", "healthy"])
def test_fields_that_no_case_has_are_named_only(context: AppContext, source: str) -> None:
    verdict = judged(context, source, colour="red", weight=12)
    assert verdict.label == "normal"
    assert verdict.degraded == ("fields: no case has 'colour', 'weight', which are not read",)
    assert judged(context, source, colour=None).degraded == ()


@pytest.mark.parametrize("column", ["noise", "pressure"])
@pytest.mark.parametrize("source", ["pumps", "healthy"])
def test_a_column_under_another_name_is_never_normal(context: AppContext, source: str, column: str) -> None:
    verdict = judged(context, source, **{column: "absent", f"{column}_new": 3.0})
    assert verdict.label == "unsure"
    (reason,) = verdict.degraded
    assert f"no case has '{column}_new', which is not read" in reason
    assert f"no value of {column}" in reason


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"text": "the casing is cracked"}, "fields: the text is not read, no case has one beside its fields"),
        ({"events": ["start", "overheat"]}, "fields: the events are not read, no case has any"),
    ],
)
def test_a_part_of_a_row_that_no_case_has_keeps_it_from_being_normal(
    context: AppContext, parts: dict[str, Any], named: str
) -> None:
    fields = pump(random.Random(99), bad=False)
    verdict = build(context).invoke({"source": "pumps", "fields": fields, **parts})
    assert verdict.label == "unsure"
    assert named in "; ".join(verdict.degraded)


def test_what_a_session_has_beside_its_events_is_named(context: AppContext) -> None:
    events = shift(random.Random(8), bad=False)["events"]
    chain = build(context)
    verdict = chain.invoke({"source": "shifts", "events": events, "fields": {"host": "n1", "fault": 0, "id": 3}})
    assert verdict.degraded == ("fields: no case has 'host', which is not read",)
    verdict = chain.invoke({"source": "shifts", "events": [*events[:2], *events[1:]], "text": "the mixer burns"})
    assert verdict.label != "normal"
    assert "the text is not read, no case has one beside its events" in verdict.degraded[0]


def test_a_text_source_names_fields_and_is_not_sure_beside_events(context: AppContext) -> None:
    chain = build(context)
    line: dict[str, Any] = {"source": "shop", "text": shop.NORMAL}
    assert (plain := chain.invoke(line)).label == "normal"
    named = chain.invoke({**line, "fields": {"bird": "canary"}})
    assert (named.label, named.degraded) == ("normal", ("fields: no case has 'bird', which is not read",))
    assert plain.degraded == ()
    assert chain.invoke({**line, "events": ["the disk burns"]}).label == "unsure"


def test_a_source_whose_text_is_a_column_reads_it_by_every_name(context: AppContext, tmp_path: Path) -> None:
    rows = [line.partition(" ") for line in shop.LOG.splitlines()]
    path = tmp_path / "shop.jsonl"
    lines = (json.dumps({"message": text, "kind": kind}) for kind, _, text in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    learn(context, [path], "column", ReadOptions(label="kind", normal=("-",)))
    chain = build(context)

    def judge(**fields: Any) -> Verdict:
        return chain.invoke({"source": "column", "fields": fields})

    plain = chain.invoke({"source": "column", "text": shop.NORMAL})
    assert (plain.label, plain.degraded) == ("normal", ())
    renamed, beside = judge(Message=shop.NORMAL), judge(message=shop.NORMAL, bird="canary")
    assert {plain.probability} == {renamed.probability, beside.probability}
    assert renamed.degraded == ("fields: read by other names: 'Message' as 'message'",)
    assert (beside.label, beside.degraded) == ("normal", ("fields: no case has 'bird', which is not read",))
    lacking = judge(bird="canary", nest="low")
    assert lacking.label == "unsure"
    assert "no value of message, which the cases have" in lacking.degraded[0]


@pytest.mark.parametrize("name", ["Pressure", "PRESSURE", "pres-sure"])
def test_a_column_in_another_case_is_read_as_the_learned_one(context: AppContext, name: str) -> None:
    fields = pump(random.Random(99), bad=True)
    plain = build(context).invoke({"source": "pumps", "fields": fields})
    other = {name if key == "pressure" else key: value for key, value in fields.items()}
    spelled = " ".join(f"{key} is {value}" for key, value in other.items())
    for request in ({"fields": other}, {"text": spelled}):
        verdict = build(context).invoke({"source": "pumps", **request})
        assert (verdict.label, verdict.probability) == ("anomalous", plain.probability)
        assert verdict.degraded[0] == f"fields: read by other names: '{name}' as 'pressure'"
        assert verdict.record.fields == plain.record.fields


def test_rows_with_texts_of_their_own_are_read_as_the_cases_were(tmp_path: Path) -> None:
    """Where the cases have texts beside their fields, one more is nothing new."""
    context, rng = AppContext(make_settings(tmp_path / "home", model="none")), random.Random(4)
    cases = [
        as_case(Record(text=f"reading {i}", fields=pump(rng, bad=i % 8 == 7)), "anomalous" if i % 8 == 7 else "normal")
        for i in range(CASES)
    ]
    context.casebook.add("pumps", cases, given_by="test")
    context.casebook.sync("pumps")
    refit(context, "pumps")
    verdict = build(context).invoke({"source": "pumps", "text": "another", "fields": pump(random.Random(9), bad=False)})
    assert (verdict.label, verdict.degraded) == ("normal", ())
    context.close()


@pytest.mark.parametrize(
    "piped", ["outlet,Inlet\n58.0,48.0\n", "outlet;inlet\n58.0;48.0\n", "outlet\tinlet\n58.0\t48.0\n"]
)
def test_a_piped_table_is_read_by_its_header_however_few_columns_it_has(piped: str) -> None:
    """By their order, a row of swapped columns would be another one."""
    columns = tuple(LearnedColumn(name=name, type="number", filled=1.0) for name in ("inlet", "outlet"))
    options = ReadOptions(table=TableSchema(columns=columns))
    (item,) = options.read("-", 65_536, lenient=True, stdin=io.BytesIO(piped.encode()))
    assert isinstance(item, ParsedRow)
    assert item.record.fields == {"inlet": 48.0, "outlet": 58.0}


def test_a_text_that_contradicts_the_fields_is_not_normal(context: AppContext) -> None:
    fields = pump(random.Random(99), bad=False)
    spelled = " ".join(f"{name} is {value}" for name, value in fields.items())
    assert build(context).invoke({"source": "pumps", "fields": fields, "text": spelled}).label == "normal"
    contradicting = spelled.replace(f"noise is {fields['noise']}", "noise is 900")
    verdict = build(context).invoke({"source": "pumps", "fields": fields, "text": contradicting})
    assert verdict.label != "normal"
    assert verdict.degraded
