"""What is proposed for a source, and with which evidence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from agent.core.errors import UnknownSource
from agent.core.records import Record, Verdict
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training import proposal as module
from agent.training.feedback import correct
from agent.training.learn import as_case
from agent.training.proposal import propose
from agent.training.refit import refit
from tests.conftest import Run, make_settings
from tests.retrieval.making import lines, row


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a fitted log and a fitted table, never changed: copy it."""
    made = AppContext(make_settings(tmp_path_factory.mktemp("proposals") / "home", model="none"))
    known = [as_case(Record(text=f"{i} {case.record.text}"), case.label) for case in lines() for i in range(5)]  # type: ignore[arg-type]
    amounts = np.random.default_rng(0).normal(100, 20, 80).round(2)
    for name, cases in (("log", known), ("pay", [row(float(amount), "de") for amount in amounts])):
        made.casebook.add(name, cases, "file test")
        made.casebook.sync(name)
        refit(made, name)
    made.close()
    return made.settings.home


@pytest.fixture
def context(home: Path, tmp_path: Path) -> Iterator[AppContext]:
    shutil.copytree(home, tmp_path / "copy", ignore=shutil.ignore_patterns("*.lock"))
    made = AppContext(make_settings(tmp_path / "copy", model="none"))
    yield made
    made.close()


def judged(context: AppContext, source: str, records: Sequence[Record]) -> list[Verdict]:
    answers = judge_many(context, build(context), records, source, "none")
    return [answer for answer in answers if isinstance(answer, Verdict)]


def texts(template: str, count: int, file: str = "x.log") -> list[Record]:
    return [Record(text=template.format(i), file=file, line=i + 1) for i in range(count)]


def test_nothing_is_proposed_without_a_reason(context: AppContext) -> None:
    judged(context, "log", texts("{} health check answered in time", 60))
    found = propose(context, "log")
    assert (found.action, found.can_tell, found.drift.alarms) == ("nothing", True, [])
    (reason,) = found.proposals[0].reasons
    assert reason.startswith("no reason found: 60 records, 0 % unsure, 0 % with templates that no case has; 0 of 0")


def test_too_few_verdicts_are_no_evidence(context: AppContext) -> None:
    (proposal,) = propose(context, "log").proposals
    assert proposal.reasons[0].startswith("nothing can be tested: no verdict is in the history")
    judged(context, "log", texts("robot {} has lost its gripper", 20))
    found = propose(context, "log")
    assert (found.action, found.can_tell) == ("nothing", False)
    assert "too few records to test for drift (50 are needed)" in found.proposals[0].reasons[0]


def test_new_templates_ask_for_labels(context: AppContext) -> None:
    judged(context, "log", texts("{} health check answered in time", 60))
    judged(context, "log", texts("robot {} has lost its gripper", 30, "y.log"))
    found = propose(context, "log")
    (proposal,) = found.proposals
    assert proposal.action == "label"
    assert "templates" in [test.of for test in found.drift.alarms]
    assert [candidate.record.text.split(" ", 2)[2] for candidate in proposal.candidates] == ["has lost its gripper"]
    assert propose(context, "log", labels=0).proposals[0].candidates == []
    few = propose(context, "log", last=20)
    assert (few.drift.records, few.can_tell) == (20, False), "a window that is too small"


def test_a_column_that_moved_asks_for_labels(context: AppContext) -> None:
    rng = np.random.default_rng(3)
    judged(context, "pay", [row(float(a), "de").record for a in rng.normal(100, 20, 120).round(2)])  # type: ignore[misc]
    assert propose(context, "pay", labels=0).drift.alarms == []
    judged(context, "pay", [row(float(a), "de").record for a in rng.normal(140, 20, 120).round(2)])  # type: ignore[misc]
    found = propose(context, "pay")
    assert "field amount" in [test.of for test in found.drift.alarms]
    assert found.action == "label"
    assert 10 <= len(found.proposals[0].candidates) <= 20


def test_changes_of_the_cases_ask_for_a_fit(context: AppContext) -> None:
    for i in range(5):
        context.casebook.add("log", [as_case(Record(text=f"robot {'x' * i} stopped"), "normal")], "API")
    found = propose(context, "log")
    assert (found.action, found.new_cases, found.changes) == ("refit", 5, 5)
    assert found.proposals[0].command == "precedent sources refit log"


def test_contradicted_verdicts_ask_for_a_fit(context: AppContext) -> None:
    verdicts = judged(context, "log", texts("{} health check answered in time", 60))
    for verdict in verdicts[:4]:
        correct(context, verdict.id, "anomalous", "API")
    assert propose(context, "log").action == "nothing", "four corrections say nothing"
    correct(context, verdicts[4].id, "anomalous", "API")
    found = propose(context, "log")
    assert found.action == "refit"
    assert (found.drift.corrected, found.drift.contradicted) == (5, 5)


def test_a_client_that_contradicts_far_more_than_others_is_named(context: AppContext) -> None:
    verdicts = judged(context, "log", texts("{} health check answered in time", 60))
    for i, verdict in enumerate(verdicts[:30]):
        correct(context, verdict.id, *(("anomalous", "API") if i < 10 else ("normal", "command line")))  # type: ignore[arg-type]
    (note,) = propose(context, "log").notes
    assert note.startswith("corrections by API contradict 10 of 10 verdicts")


def test_only_confirmations_are_no_reason_beyond_their_number(context: AppContext) -> None:
    for verdict in judged(context, "log", texts("{} health check answered in time", 60))[:4]:
        correct(context, verdict.id, "normal")
    found = propose(context, "log")
    assert (found.action, found.drift.corrected, found.drift.contradicted) == ("nothing", 4, 0)


def test_a_source_without_cases_and_one_that_was_never_fitted(context: AppContext) -> None:
    context.casebook.create("empty")
    assert propose(context, "empty").action == "nothing"
    judged(context, "empty", texts("line {}", 60))
    assert propose(context, "empty").action == "label"
    context.casebook.add("killed", [as_case(Record(text="a line"), "normal")], "file test")
    found = propose(context, "killed")
    assert (found.action, found.new_cases) == ("refit", None)
    assert found.proposals[0].reasons == ["it has 1 case and was never fitted"]
    with pytest.raises(UnknownSource):
        propose(context, "nowhere")


def test_tuning_needs_many_cases_and_something_to_gain(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CASES_TO_TUNE", 40)
    monkeypatch.setattr(module, "_OF_EACH_LABEL", 20)
    judged(context, "log", texts("{} health check answered in time", 60))
    assert propose(context, "log").action == "nothing"
    judged(context, "log", texts("the robot {} plays chess against a tall choir", 60, "y.log"))
    found = {proposal.action: proposal for proposal in propose(context, "log").proposals}
    assert set(found) == {"label", "tune"}
    assert found["tune"].command == "precedent tune classifier --source log"


def test_the_command(context: AppContext, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(context, "log", texts("\x1b[31m robot {} has lost its gripper", 60))
    for i in range(5):
        context.casebook.add("log", [as_case(Record(text=f"robot {'x' * i} stopped"), "normal")], "API")
    context.close()
    monkeypatch.setenv("PRECEDENT_HOME", str(context.settings.home))
    shown = run("sources", "propose", "log")
    assert (shown.code, "\x1b" in shown.out) == (0, False)
    assert "command: precedent sources refit log" in shown.out
    assert "command: precedent correct ID normal|anomalous" in shown.out
    applied = json.loads(run("sources", "propose", "log", "--json", "--apply").out)
    assert (applied["action"], applied["applied"]["decision"]) == ("refit", "replaced")
    again = json.loads(run("sources", "propose", "log", "--json", "--since", "2100-01-01").out)
    assert (again["drift"]["records"], again["applied"]) == (0, None)
    assert run("sources", "propose", "nowhere").code == 2


def test_a_source_whose_learning_was_killed_says_so(context: AppContext, run: Run, tmp_path: Path) -> None:
    context.casebook.add("killed", [as_case(Record(text="a line of it"), "normal")], "file test")
    context.close()
    shutil.copytree(context.settings.home, tmp_path / "home", ignore=shutil.ignore_patterns("*.lock"))
    assert "(fit it: precedent sources refit killed)" in run("sources", "show", "killed").out
    (tmp_path / "x.log").write_text("a line of it\n", encoding="utf-8")
    judged_once = run("judge", "x.log", "--source", "killed")
    assert "was never fitted" in judged_once.err
    assert "precedent sources refit killed fits it" in judged_once.err
    assert "it is the first fit of the source" in run("sources", "refit", "killed").out
    assert "never fitted" not in run("judge", "x.log", "--source", "killed").err
