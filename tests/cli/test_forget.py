"""`precedent sources forget`: nothing of a person is left in the data directory, and others are judged as before."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from agent.chat.memory import SessionHistory
from agent.core.records import Record
from agent.pipeline.context import AppContext
from agent.training.forget import forget
from agent.training.learn import as_case
from agent.training.refit import refit
from retrieval.errors import NotWritable
from retrieval.store.erasure import Erasure
from tests.conftest import Result, Run, make_settings
from tests.disks import read_only
from tests.shop import LOG, NORMAL

NAME = "Zacharias.Müller-Quux"
OWN = "".join(
    f"- user {NAME} logged in from 10.0.0.{n}\n- order of {NAME} number {n} shipped to Ulm\n" for n in range(4)
)
LEARN = ("--source", "shop", "--format", "log", "--label", "0", "--normal", "-")


def places(home: Path, text: str = NAME) -> list[str]:
    """Files of the data directory whose raw bytes hold the text in one of the forms in which it can be stored."""
    forms = [text.encode(), json.dumps(text)[1:-1].encode(), text.encode("utf-16-le"), text.encode("utf-32-le")]
    files = [path for path in home.rglob("*") if path.is_file()]
    return [str(path.relative_to(home)) for path in files if any(form in path.read_bytes() for form in forms)]


def labels(judged: Result) -> list[tuple[str, float]]:
    return [(verdict["label"], verdict["probability"]) for verdict in map(json.loads, judged.out.splitlines())]


@pytest.fixture
def home(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("retrieval.index.synced._SMALL", 0)
    log, other = tmp_path / "shop.log", tmp_path / "other.log"
    log.write_text(LOG + OWN)
    other.write_text(LOG)
    assert run("learn", log, *LEARN, "--brief", f"a shop where {NAME} buys").code == 0
    assert run("learn", other, "--source", "other", *LEARN[2:], "--brief", "another").code == 0
    judged = run("judge", log, *LEARN, "--to", "jsonl", "--detail", "full")
    verdicts = [json.loads(line) for line in judged.out.splitlines()]
    verdict = next(verdict for verdict in verdicts if NAME in verdict["record"]["text"])
    assert run("correct", verdict["id"], "anomalous").code == 0
    assert run("judge", other, "--source", "other", *LEARN[2:], "--detail", "full").code == 0
    assert places(tmp_path / "home")
    return tmp_path / "home"


def test_nothing_is_left_of_a_person(run: Run, home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.log"
    judge_other = ("judge", other, "--source", "other", *LEARN[2:], "--to", "jsonl", "--explain", "none")
    before = labels(run(*judge_other))
    dry = run("sources", "forget", "shop", "--matching", NAME.upper(), "--dry-run", "--json")
    assert dry.code == 0, dry.err
    found = json.loads(dry.out)
    assert found["dry_run"]
    assert found["erased"]["cases"] == 8
    assert found["erased"]["corrections"] == 1
    assert found["erased"]["verdicts"] >= 8
    assert found["erased"]["brief"] == 1
    assert NAME in found["examples"][0]
    assert places(home), "nothing was changed"
    refused = run("sources", "forget", "shop", "--matching", NAME, stdin=b"")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert places(home)
    erased = run("sources", "forget", "shop", "--matching", NAME, "--yes", "--json")
    assert erased.code == 0, erased.err
    result = json.loads(erased.out)
    assert result["refitted"]
    assert result["erased"] == {**found["erased"], **{k: result["erased"][k] for k in ("vectors", "llm_answers")}}
    assert any("backups" in place for place in result["not_erased"])
    assert places(home) == []
    assert (
        run("sources", "forget", "shop", "--matching", NAME, "--yes").out.splitlines()[0]
        == "shop: erased: nothing matches"
    )
    learned_log = tmp_path / "rest.log"
    learned_log.write_text(LOG)
    judged = run("judge", learned_log, *LEARN, "--to", "jsonl")
    assert judged.code == 0
    assert all(json.loads(line)["degraded"] == [] for line in judged.out.splitlines())
    assert labels(run(*judge_other)) == before, "another source is as it was"


def test_what_a_person_said_to_the_agent_is_erased(run: Run, home: Path) -> None:
    with closing(AppContext(make_settings(home, model="none"))) as context:
        messages = [HumanMessage(f"where is {NAME}?"), AIMessage(f"{NAME} is a case"), HumanMessage("and the others?")]
        SessionHistory(context, "session").add_messages(messages)
        assert forget(context, "shop", NAME.upper(), dry_run=True).erased["chat_messages"] == 2
        assert not [place for place in forget(context, "shop", NAME.upper()).not_erased if "still holds" in place]
        assert [message.text for message in SessionHistory(context, "session").messages] == ["and the others?"]
    assert places(home) == []


def test_what_another_source_holds_is_named_however_it_is_written(run: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "third.log").write_text(LOG + OWN)
    assert run("learn", tmp_path / "third.log", "--source", "third", *LEARN[2:], "--brief", "x").code == 0
    erased = run("sources", "forget", "shop", "--matching", NAME.upper(), "--yes")
    assert "precedent.db still holds the text: another source may have it" in erased.out


def test_by_regular_expression(run: Run, home: Path) -> None:
    result = run("sources", "forget", "shop", "--matching", r"user Zacha\w+\.\S+ logged", "--regex", "--yes", "--json")
    assert json.loads(result.out)["erased"]["cases"] == 4
    assert places(home, f"user {NAME} logged") == []
    assert places(home), "only those that match"


def test_a_pattern_that_takes_too_long(run: Run, home: Path, tmp_path: Path) -> None:
    log = tmp_path / "long.log"
    log.write_text(f"- {'a' * 4_000}!\n" + LOG)
    assert run("learn", log, "--source", "long", *LEARN[2:], "--brief", "x").code == 0
    result = run("sources", "forget", "long", "--matching", "(a|aa|aaa)+$", "--regex", "--yes")
    assert result.code == 2
    assert "takes more than" in result.err
    assert "nothing was erased" in result.err
    assert run("sources", "forget", "long", "--matching", "aaaa", "--dry-run").out.startswith(
        "long: would be erased: 1 case"
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--matching", ""], "needs a text"),
        (["--matching", " "], "needs a text"),
        (["--matching", "(", "--regex"], "is not a regular expression"),
        (["--matching", "x*", "--regex"], "matches every text"),
    ],
)
def test_patterns_that_are_refused(run: Run, home: Path, options: list[str], reason: str) -> None:
    result = run("sources", "forget", "shop", *options, "--yes")
    assert result.code == 2
    assert reason in result.err
    assert run("sources", "forget", "none", "--matching", "x", "--yes").code == 2


def test_all_cases_of_a_source(run: Run, home: Path) -> None:
    result = run("sources", "forget", "shop", "--matching", ".", "--regex", "--yes", "--json")
    assert json.loads(result.out)["erased"]["cases"] == 68
    assert places(home) == []
    assert run("judge", "-", "--source", "shop", "--to", "jsonl", stdin=f"{NORMAL}\n".encode()).code == 0


def test_what_restore_kept_is_named(run: Run, home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "home.before-restore-20260101T000000")
    result = run("sources", "forget", "shop", "--matching", NAME, "--yes")
    assert "home.before-restore-20260101T000000" in result.out


def test_a_run_that_ended_after_it_erased_is_completed(run: Run, home: Path, tmp_path: Path) -> None:
    context = AppContext(make_settings(home, model="none"))
    erasure = Erasure(context.casebook.engine, "shop", lambda text: NAME.lower() in text.lower())
    context.casebook.erase_vectors("shop", erasure.erase)
    fitted_on = (context.source("shop").source_model or {})["fitted_on"]
    context.close()
    (tmp_path / "rest.log").write_text(NORMAL + "\n")
    judged = run("judge", tmp_path / "rest.log", *LEARN, "--to", "jsonl")
    assert judged.code == 0, "judged by the fit that there is"
    assert "fitted with records that were erased since" in str(json.loads(judged.out)["degraded"])
    completed = run("sources", "forget", "shop", "--matching", NAME, "--yes")
    assert completed.code == 0, completed.err
    assert "the source was fitted again without them" in completed.out
    assert places(home) == []
    model = json.loads(run("sources", "show", "shop", "--json").out)["judge"]
    assert model["fitted_on"] > fitted_on
    assert json.loads(run("judge", tmp_path / "rest.log", *LEARN, "--to", "jsonl").out)["degraded"] == []
    again = run("sources", "forget", "shop", "--matching", NAME, "--yes")
    assert again.out == "shop: erased: nothing matches\n"


def test_a_pattern_means_what_is_stored_in_place_of_it(tmp_path: Path) -> None:
    with closing(AppContext(make_settings(tmp_path / "home", model="none"))) as context:
        context.casebook.add("s", [as_case(Record(text="paid by a\ud800b"), "normal")], "file")
        assert forget(context, "s", "by a\ud800b", dry_run=True).erased["cases"] == 1


def test_a_read_only_folder_is_named(run: Run, home: Path) -> None:
    with read_only(home) as view, closing(AppContext(make_settings(view, model="none"))) as context:
        with pytest.raises(NotWritable, match="read-only"):
            forget(context, "shop", NAME)
        with pytest.raises(NotWritable, match="read-only"):
            context.casebook.rebuild("shop")


def test_what_requests_under_way_write_meanwhile_is_erased(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(AppContext(make_settings(home, model="none"))) as context:
        verdict = next(body for body, _, _ in context.history.find(source="shop", limit=500) if NAME in str(body))

        def refit_beside_a_request(*arguments: Any, **options: Any) -> Any:
            context.history.put([verdict])
            return refit(*arguments, **options)

        monkeypatch.setattr("agent.training.forget.refit", refit_beside_a_request)
        assert forget(context, "shop", NAME).refitted
    assert places(home) == []


def test_how_a_number_or_a_time_is_kept_is_named(run: Run, tmp_path: Path) -> None:
    rows = [f"{i % 24:02}:{i % 60:02}:30,{i}.5 MB,{i % 2}" for i in range(60)]
    (tmp_path / "jobs.csv").write_text("\n".join(["at,size,label", *rows]) + "\n")
    assert run("learn", "jobs.csv", "--source", "jobs", "--label", "label", "--brief", "jobs").code == 0
    nothing = run("sources", "forget", "jobs", "--matching", "07:07:30", "--dry-run")
    assert "07:07:30 is kept as 25650 in column at" in nothing.err
    assert "1 case" in run("sources", "forget", "jobs", "--matching", "25650", "--dry-run").out
