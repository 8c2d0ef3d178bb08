"""Verdicts are stored by their ids, never over another record's, and pruned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from retrieval.casebook import Casebook
from retrieval.errors import StoreFailure
from retrieval.store.schema import verdicts
from retrieval.store.verdicts import AlikeVerdict, History


def body(number: int, label: str = "normal") -> dict[str, Any]:
    record = {"text": f"record {number}", "fields": {}, "file": None, "line": None, "time": None}
    return {
        "id": f"v{number}",
        "source": "log",
        "label": label,
        "probability": 0.25,
        "explanation": "é 🙂",
        "record": record,
    }


@pytest.fixture
def history(book: Casebook) -> History:
    book.create("log")
    return History(book.engine)


def test_a_verdict_comes_back_as_it_was_put(history: History) -> None:
    history.put([body(1), body(2)])
    assert history.get("v2") == body(2)
    assert history.get("v3") is None
    history.put([])


def test_a_verdict_of_the_same_id_is_replaced(history: History) -> None:
    history.put([body(1), body(2)])
    history.put([body(1, "anomalous"), body(1, "unsure")])
    assert history.get("v1") == body(1, "unsure")
    assert history.get("v2") == body(2)


def alike(number: int, body: str) -> AlikeVerdict:
    return AlikeVerdict(f"v{number}", "log", "normal", 0.25, body)


def test_a_verdict_like_another_comes_back_whole(history: History) -> None:
    history.put([body(1)])
    row = '{"like": "v1", "record": {"text": "é \\" 2"}, "explanation": "its own"}'
    history.put_alike([alike(2, row), alike(3, row)])
    whole = {**body(1), "id": "v2", "record": {"text": 'é " 2'}, "explanation": "its own"}
    assert history.get("v2") == whole
    assert sorted(verdict["id"] for verdict, *_ in history.find(source="log", limit=5)) == ["v1", "v2", "v3"]
    assert whole in [verdict for verdict, *_ in history.find(source="log", limit=5)]


def test_a_stored_verdict_is_not_replaced_by_one_like_another(history: History) -> None:
    history.put([body(1)])
    history.put_alike([alike(2, '{"like": "v1", "record": {"text": "a"}}')])
    history.corrected("v2", "anomalous")
    history.put_alike([alike(2, '{"like": "v1", "record": {"text": "b"}}')])
    assert [
        (verdict["record"]["text"], label)
        for verdict, label, _ in history.find(source="log", limit=9)
        if verdict["id"] == "v2"
    ] == [("a", "anomalous")]
    # another process may have met the two in another order
    history.put_alike([alike(1, '{"like": "v2", "record": {"text": "b"}}')])
    assert history.get("v1") == body(1)
    history.put_alike([])


def test_many_verdicts_at_once(history: History) -> None:
    history.put(body(i) for i in range(1_234))
    history.put(body(i, "unsure") for i in range(1_234))
    assert {(history.get(f"v{i}") or {}).get("label") for i in range(0, 1_234, 100)} == {"unsure"}


def test_a_correction_is_kept_beside_the_verdict(history: History, book: Casebook) -> None:
    history.put([body(1), body(2)])
    history.corrected("v1", "anomalous")
    with book.engine.connect() as connection:
        query = select(verdicts.c.id, verdicts.c.corrected_to).order_by(verdicts.c.id)
        assert [tuple(row) for row in connection.execute(query)] == [("v1", "anomalous"), ("v2", None)]
    assert history.get("v1") == body(1)


def last(history: History, count: int) -> list[tuple[dict[str, Any], str | None]]:
    return [(verdict, label) for verdict, label, _ in history.find(source="log", limit=count)]


def test_the_last_verdicts_newest_first(history: History) -> None:
    history.put([body(1)])
    history.put([body(2)])
    history.put([body(3)])
    history.corrected("v2", "anomalous")
    assert last(history, 2) == [(body(3), None), (body(2), "anomalous")]
    history.put([body(1, "unsure")])
    assert last(history, 1) == [(body(1, "unsure"), None)]
    assert history.find(source="other", limit=9) == []


def test_a_verdict_of_another_record_is_not_replaced(history: History) -> None:
    history.put([body(1), body(2)])
    other = {**body(3), "id": "v1"}
    with pytest.raises(StoreFailure, match="v1 in the history is about another record"):
        history.put([body(4), other])
    assert history.get("v1") == body(1)
    assert history.get("v4") is None, "all or none of them"
    again = body(1)
    history.put([{**again, "record": {**again["record"], "time": "12:00"}}])
    assert (history.get("v1") or {})["record"]["time"] == "12:00", "the id does not cover the time"


def test_a_correction_survives_a_new_verdict_on_the_record(history: History) -> None:
    history.put([body(1)])
    history.corrected("v1", "anomalous")
    history.put([body(1, "unsure")])
    assert last(history, 1) == [(body(1, "unsure"), "anomalous")]


# pruning


def age(history: History, days: dict[str, float]) -> None:
    with history._engine.begin() as connection:
        for verdict_id, number in days.items():
            at = datetime.now(UTC) - timedelta(days=number)
            connection.execute(update(verdicts).where(verdicts.c.id == verdict_id).values(judged_at=at))


def ids(history: History) -> set[str]:
    return {verdict["id"] for verdict, *_ in history.find(source="log", limit=99)}


def test_old_verdicts_are_pruned(history: History) -> None:
    history.put(body(i) for i in range(1, 5))
    age(history, {"v1": 40, "v2": 31, "v3": 29})
    assert history.prune() == 0
    assert history.prune(max_age_days=30) == 2
    assert ids(history) == {"v3", "v4"}


def test_the_newest_verdicts_are_kept(history: History) -> None:
    history.put(body(i) for i in range(1, 5))
    age(history, {"v1": 4, "v2": 1, "v3": 3, "v4": 2})
    assert history.prune(max_age_days=99, max_rows=2) == 2
    assert ids(history) == {"v2", "v4"}
    assert history.prune(max_rows=0) == 2
    assert ids(history) == set()


def test_a_verdict_stays_while_another_is_like_it(history: History) -> None:
    history.put([body(1), body(2)])
    history.put_alike([alike(3, '{"like": "v1", "record": {"text": "its own"}}')])
    age(history, {"v1": 40, "v2": 40, "v3": 1})
    assert history.prune(max_age_days=30) == 1
    assert (history.get("v3") or {})["explanation"] == body(1)["explanation"]
    age(history, {"v3": 40})
    assert history.prune(max_age_days=30) == 2
    assert ids(history) == set()


def test_verdicts_given_at_the_same_moment_are_counted_by_their_ids(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.store.verdicts._PRUNED_AT_ONCE", 2)
    history.put(body(i) for i in range(1, 8))
    with history._engine.begin() as connection:
        connection.execute(update(verdicts).values(judged_at=datetime(2026, 1, 1, tzinfo=UTC)))
    assert history.prune(max_rows=2) == 5
    assert len(ids(history)) == 2


def test_a_verdict_whose_model_is_gone_is_not_there(history: History) -> None:
    history.put([body(1), body(2)])
    history.put_alike([alike(3, '{"like": "v1", "record": {"text": "its own"}}')])
    with history._engine.begin() as connection:
        connection.execute(delete(verdicts).where(verdicts.c.id == "v1"))
    assert history.get("v3") is None
    assert ids(history) == {"v2"}
    assert history.missing(["v1", "v2", "v3"]) == {"v1"}
