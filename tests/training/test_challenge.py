"""A new fit replaces the present one only if it is not worse on what neither was fitted to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.core.errors import UsageError
from agent.core.records import Label, Record
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.data.series import SeriesOptions
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training import challenge as module
from agent.training import feedback
from agent.training.challenge import Challenge, challenge
from agent.training.comparison import client_of, decided_worse, outlying_clients, paired_test
from agent.training.feedback import refit_source_if_due
from agent.training.learn import as_case, learn
from agent.training.refit import changes_since_fit, earlier_fit, refit, rollback
from retrieval.store.fits import Fits
from tests.conftest import Run, make_settings
from tests.series_files import DAY, daily, write_series


@pytest.fixture
def context(tmp_path: Path) -> Iterator[AppContext]:
    made = AppContext(make_settings(tmp_path / "home", model="none"))
    yield made
    made.close()


def rows(seed: int, count: int, *, flipped: bool = False) -> list[tuple[Record, Label]]:
    """Rows of two numbers; those with a large `load` are anomalous, or ``flipped`` those with a small one."""
    rng, made = np.random.default_rng(seed), list[tuple[Record, Label]]()
    for load, size in rng.normal(0, 1, (count, 2)).round(4).tolist():
        label: Label = "anomalous" if (load > 0.5) != flipped else "normal"
        made.append((Record(text=f"load is {load} size is {size}", fields={"load": load, "size": size}), label))
    return made


def add(context: AppContext, labelled: Sequence[tuple[Record, Label]], given_by: str = "file test") -> None:
    context.casebook.add("t", [as_case(record, label) for record, label in labelled], given_by)
    context.casebook.sync("t")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a fitted source, never changed: copy it."""
    made = AppContext(make_settings(tmp_path_factory.mktemp("fitted") / "home", model="none"))
    add(made, rows(1, 60))
    refit(made, "t")
    made.close()
    return made.settings.home


@pytest.fixture
def fitted(home: Path, tmp_path: Path) -> Iterator[AppContext]:
    shutil.copytree(home, tmp_path / "copy", ignore=shutil.ignore_patterns("*.lock"))
    made = AppContext(make_settings(tmp_path / "copy", model="none"))
    yield made
    made.close()


def probabilities(context: AppContext) -> list[float]:
    chain = build(context)
    return [chain.invoke(JudgeRequest.about(record, "t")).probability for record, _ in rows(99, 8)]


def test_a_new_fit_that_knows_a_change_replaces_the_one_that_does_not(fitted: AppContext) -> None:
    before = probabilities(fitted)
    add(fitted, rows(2, 100, flipped=True))
    with_cases = probabilities(fitted)
    result = challenge(fitted, "t")
    assert (result.decision, result.tests["all"].outcome) == ("replaced", "better"), result
    # cases given within one microsecond are on one side of the split
    assert result.new_cases == 100
    assert 48 <= result.compared_on <= 50
    assert result.champion is not None
    assert result.challenger is not None
    assert result.challenger.log_loss < result.champion.log_loss
    assert changes_since_fit(fitted.source("t")) == 0
    assert probabilities(fitted) != pytest.approx(before, abs=1e-3)
    rollback(fitted, "t")
    assert probabilities(fitted) == pytest.approx(with_cases, abs=1e-9), "the champion judges again"


def test_the_published_fit_is_that_of_a_refit(fitted: AppContext) -> None:
    add(fitted, rows(2, 24))
    challenge(fitted, "t")
    published, judged = Fits(fitted.casebook.engine).current("t"), probabilities(fitted)
    refit(fitted, "t")
    again = Fits(fitted.casebook.engine).current("t")
    assert published is not None
    assert again is not None
    assert published.source_model == again.source_model
    assert probabilities(fitted) == pytest.approx(judged, abs=1e-9)


def test_a_new_fit_that_is_worse_is_kept_out_and_not_tried_again(
    fitted: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    # wrong labels first, then right ones: what was learned from the first half is wrong on the second
    for labelled in (rows(2, 80, flipped=True), rows(3, 90)):
        for start in range(0, len(labelled), 20):
            add(fitted, labelled[start : start + 20])
    champion = Fits(fitted.casebook.engine).current("t")
    results = list[Challenge]()
    monkeypatch.setattr(feedback, "challenge", lambda *of, **options: results.append(challenge(*of, **options)))
    assert refit_source_if_due(fitted, "t") == 0, "corrections obey the guard"
    (result,) = results
    assert (result.decision, result.tests["all"].outcome) == ("kept", "worse"), result
    present = Fits(fitted.casebook.engine).current("t")
    assert champion is not None
    assert present is not None
    assert present.models == champion.models
    assert refit_source_if_due(fitted, "t") == 0
    assert len(results) == 1, "nothing came since"
    assert present.source_model["challenged_on"] == fitted.source("t").version


def test_too_few_new_cases_replace_by_default_and_say_so(fitted: AppContext) -> None:
    add(fitted, rows(2, 19))
    result = challenge(fitted, "t")
    assert (result.decision, result.compared_on, result.champion) == ("replaced", 0, None)
    assert "19 new cases are too few" in result.reason
    assert changes_since_fit(fitted.source("t")) == 0
    none = challenge(fitted, "t")
    assert none.new_cases == 0


def test_cases_that_had_another_label_are_nothing_to_compare_on(fitted: AppContext) -> None:
    for record, label in rows(1, 60)[:24]:
        fitted.casebook.relabel("t", as_case(record, "normal" if label == "anomalous" else "anomalous"), "a person")
    result = challenge(fitted, "t")
    assert (result.decision, result.new_cases, result.compared_on) == ("replaced", 24, 0)


def test_no_difference_is_called_none(fitted: AppContext) -> None:
    # cases of contents that differ from known ones in nothing that counts
    near = [(rec, label) for rec, label in rows(2, 60) if abs(float(str(rec.fields["load"])) - 0.5) > 0.8]
    add(fitted, near)
    result = challenge(fitted, "t")
    assert (result.decision, result.tests["all"].outcome) == ("replaced", "alike"), result
    assert "do not differ beyond chance" in result.reason


def test_one_label_only(context: AppContext) -> None:
    normal = [(record, label) for record, label in rows(1, 70) if label == "normal"]
    add(context, normal[:24])
    assert challenge(context, "t").reason == "it is the first fit of the source"
    add(context, normal[24:])
    result = challenge(context, "t")
    assert result.champion is not None
    assert (result.decision, result.champion.roc_auc) == ("replaced", None)


def test_texts_and_their_kept_numbers_are_published_together(context: AppContext) -> None:
    def jobs(words: str, *, codes: tuple[int, ...]) -> list[tuple[Record, Label]]:
        return [
            (Record(text=f"job {word} ended with code {code}"), "anomalous" if code else "normal")
            for word in words
            for code in codes
        ]

    add(context, jobs("abcdefgh", codes=(0,)))
    refit(context, "t")
    add(context, jobs("qrstuvwxy", codes=(0, 1)))
    challenge(context, "t")
    representation = context.source("t").representation
    assert representation is not None
    assert representation.kept
    assert changes_since_fit(context.source("t")) == 0
    verdicts = [
        build(context).invoke(JudgeRequest.about(Record(text=f"job zz ended with code {code}"), "t")) for code in (0, 1)
    ]
    assert verdicts[0].probability < 0.5 < verdicts[1].probability
    before = earlier_fit(context, "t")
    assert before is not None
    rollback(context, "t")
    assert context.source("t").representation != representation


def test_a_source_without_cases_cannot_be_fitted(context: AppContext) -> None:
    context.casebook.create("t")
    with pytest.raises(UsageError, match="no cases"):
        challenge(context, "t")


def test_another_process_was_faster(fitted: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    add(fitted, rows(2, 24))
    original = module._compared

    def meanwhile(*arguments: object) -> Challenge:
        refit(fitted, "t", objective="accuracy")
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_compared", meanwhile)
    with pytest.raises(module.FittedMeanwhile, match="another process"):
        challenge(fitted, "t")
    assert (fitted.source("t").source_model or {})["objective"] == "accuracy"


def test_whatever_ends_it_leaves_the_champion(fitted: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    add(fitted, rows(2, 24))
    champion, judged, ends = Fits(fitted.casebook.engine).current("t"), probabilities(fitted), [False, True]

    def ended(*arguments: Any, **options: Any) -> None:
        refit(*arguments, **options)
        if ends.pop(0):
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "refit", ended)
    with pytest.raises(KeyboardInterrupt):
        challenge(fitted, "t")
    assert ends == [], "after the last fit, before it replaces the champion"
    assert Fits(fitted.casebook.engine).current("t") == champion
    assert probabilities(fitted) == pytest.approx(judged, abs=1e-9)


def test_the_command_shows_both_fits(fitted: AppContext, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    add(fitted, rows(2, 24))
    fitted.close()
    monkeypatch.setenv("PRECEDENT_HOME", str(fitted.settings.home))
    found = json.loads(run("sources", "refit", "t", "--json").out)
    # cases given within one microsecond are on one side of the split
    assert (found["source"], found["decision"]) == ("t", "replaced")
    assert 10 <= found["compared_on"] <= 12
    again = run("sources", "refit", "t")
    assert (again.code, "0 new cases are too few" in again.out) == (0, True)
    assert (run("sources", "refit", "nowhere").code, run("sources", "refit", "t", "--detector", "no").code) == (2, 2)


def test_a_fit_that_is_worse_without_an_outlying_client_is_kept_out() -> None:
    rng = np.random.default_rng(0)
    keys = [str(i) for i in range(40)]
    tests = {"all": paired_test(rng.normal(0, 1, 40), keys), "without API": paired_test(rng.normal(-1, 1, 40), keys)}
    decision, reason = module._decide(tests, more_wrong=False)
    assert (decision, "without API" in reason) == ("kept", True)
    assert module._decide({"all": tests["all"]}, more_wrong=False)[0] == "replaced"
    assert module._decide({"all": tests["all"]}, more_wrong=True)[0] == "kept"


# the tests themselves


def test_gains_of_noise_are_taken_for_a_difference_rarely() -> None:
    rng = np.random.default_rng(0)
    worse = [paired_test(rng.standard_t(3, 40), [str(i) for i in range(40)]).outcome for _ in range(60)]
    assert worse.count("worse") + worse.count("better") <= 8
    assert paired_test(rng.normal(0.5, 1, 60), [str(i) for i in range(60)]).outcome == "better"
    assert paired_test(rng.normal(-0.5, 1, 60), [str(i) for i in range(60)]).outcome == "worse"


def test_records_of_one_template_are_one_piece_of_evidence() -> None:
    assert paired_test(np.full(500, 0.4), ["k"] * 500).outcome == "too few"
    assert paired_test(np.zeros(0), []).outcome == "too few"


def test_a_client_whose_labels_contradict_the_verdicts_is_named() -> None:
    contradicts = np.array([True] * 12 + [False] * 3 + [True] * 2 + [False] * 40)
    clients = ["API"] * 15 + ["command line"] * 42
    assert outlying_clients(clients, contradicts) == {"API": (12, 15)}
    assert outlying_clients(["API"] * 57, contradicts) == {}
    assert client_of("feedback on v12, API") == "API"
    assert client_of("feedback on v12") == "a person"
    assert client_of("file x.csv") == "file x.csv"


def test_more_wrong_decisions_are_found(fitted: AppContext) -> None:
    chain = build(fitted)
    verdict = chain.invoke(JudgeRequest.about(rows(5, 1)[0][0], "t"))
    right = [verdict.model_copy(update={"label": "normal"})] * 12
    wrong = [verdict.model_copy(update={"label": "anomalous"})] * 12
    assert decided_worse(right, wrong, [False] * 12)
    assert not decided_worse(wrong, right, [False] * 12)
    assert not decided_worse(right, [*right[:10], *wrong[:2]], [False] * 12)


def test_windows_of_series_are_compared_as_windows(context: AppContext, tmp_path: Path) -> None:
    path, options = write_series(tmp_path / "a.csv", daily(12 * DAY)), ReadOptions(series=SeriesOptions(window=DAY))
    learn(context, [path], "load", options, all_normal=True)
    champion = Fits(context.casebook.engine).current("load")
    assert champion is not None
    later = options.read_unlabelled(write_series(tmp_path / "b.csv", daily(12 * DAY, 2)), 1_000)
    records = [row.record for row in later if isinstance(row, ParsedRow)]
    context.casebook.add("load", [as_case(record, "normal") for record in records], "file later")
    _, held_out = module._held_out(context, "load", champion)
    assert held_out is not None
    assert all(record.series in [other.series for other in records] for record in held_out.records)
