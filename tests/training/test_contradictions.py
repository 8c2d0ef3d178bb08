"""Cases that contradict each other: the fit ends with the base rate, a notice, and verdicts that are unsure."""

from __future__ import annotations

import random
import re
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.numerics import expit
from agent.core.records import Record
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.scoring.fusion import CONTENT_PSEUDO_COUNTS, Fusion, SourceModel
from agent.training.contradictions import note_on_risk, pseudo_counts_of_contents
from agent.training.learn import LearnResult, learn
from agent.training.refit import refit
from tests.conftest import make_settings
from tests.training.test_learn import ContextWith

FILES = {
    "one.log": ("0", "- took 1 ms\n- took 2 ms\n- took 3 ms\nX took 4 ms\n"),
    "texts.csv": ("label", "text,label\n" + "win a prize,0\nwin a prize,1\n" * 5),
    "rows.csv": ("label", "a,b,label\n" + "1,2,0\n1,2,1\n" * 10),
    "sessions.jsonl": ("label", "".join(f'{{"events": ["open", "read"], "label": {i % 2}}}\n' for i in range(12))),
    "half.log": ("0", "- took 1 ms\nX took 4 ms\n- job started\n"),
}


def learned(context: AppContext, folder: Path, name: str, content: str, label: str) -> LearnResult:
    (folder / name).write_text(content)
    return learn(context, [folder / name], "s", ReadOptions(label=label), brief="Records.", budget=20)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("with_model", [False, True])
def test_contradictions_end_with_a_notice_and_unsure_verdicts(tmp_path: Path, name: str, with_model: bool) -> None:
    label, content = FILES[name]
    context = (
        ContextWith(tmp_path, lambda system, user: 1.0)
        if with_model
        else AppContext(make_settings(tmp_path / "home", model="none"))
    )
    result = learned(context, tmp_path, name, content, label)
    assert any("labels contradict each other" in note for note in result.case_notes)
    row = context.source("s")
    model = SourceModel.of(row.source_model, row.counts)
    low, high = model.without_llm.band
    cases = context.casebook.cases("s")
    share = sum(case.label == "anomalous" for case in cases) / len(cases)
    assert low < share < high
    assert expit(model.without_llm.bias) == pytest.approx(share)
    assert model.without_llm.bias == pytest.approx(model.without_llm.threshold)
    context.casebook.rebuild("s")
    refit(context, "s")
    first = cases[0]
    # another line of the same template: the very content of a case is decided by that case
    text = first.text if first.fields else re.sub(r"\d+", "777", first.text)
    records = [Record(text=text, fields=first.fields, events=first.events), Record(text="quite another thing")]
    for record in records:
        verdict = build(context).invoke({"record": record, "source": "s"})
        assert verdict.label == "unsure", record
    context.close()


@pytest.mark.parametrize(("normal", "label"), [(3, "unsure"), (60, "normal")])
def test_a_template_of_both_labels_is_sure_only_where_nearly_all_cases_agree(
    tmp_path: Path, normal: int, label: str
) -> None:
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    content = "".join(f"- took {i} ms\n" for i in range(normal)) + "X took 999 ms\n- job started\nX disk lost\n"
    learned(context, tmp_path, "a.log", content, "0")
    verdict = build(context).invoke({"text": "took 5000 ms", "source": "s"})
    assert verdict.label == label
    # the very content of a case is decided by its own label
    assert build(context).invoke({"text": "took 999 ms", "source": "s"}).label == "anomalous"
    context.close()


@pytest.mark.parametrize("content", ["- took 1 ms\n- took 2 ms\n", "- job started\nX disk lost\n", "- a\n" * 30])
@pytest.mark.parametrize("with_model", [False, True])
def test_few_cases_or_one_label_are_learned(tmp_path: Path, content: str, with_model: bool) -> None:
    context = (
        ContextWith(tmp_path, lambda system, user: 1.0)
        if with_model
        else AppContext(make_settings(tmp_path / "home", model="none"))
    )
    assert learned(context, tmp_path, "a.log", content, "0").case_notes == ()
    context.close()


def test_it_is_named_when_the_risk_may_be_exceeded() -> None:
    keys = [("a", "normal"), ("b", "normal"), ("c", "anomalous")]
    (note,) = note_on_risk(Fusion({}, 0.0, risk_kept=False), 0.05, keys)
    assert note.startswith("more than 5 % of the decided verdicts")
    assert "1 anomalous cases" in note
    assert not any(note_on_risk(Fusion({}, 0.0, risk_kept=kept), 0.05, keys) for kept in (True, None))


def test_one_label_is_worth_as_much_as_cases_of_equal_content_agree() -> None:
    agreeing = {(f"{i}", label): 2 for i in range(400) for label in ["anomalous" if i % 5 == 0 else "normal"]}
    assert pseudo_counts_of_contents(agreeing) == CONTENT_PSEUDO_COUNTS
    assert pseudo_counts_of_contents({(f"{i}", "normal"): 1 for i in range(9)}) == CONTENT_PSEUDO_COUNTS
    # no content has several cases, and one label is rare
    alone = {(f"{i}", "anomalous" if i % 9 == 0 else "normal"): 1 for i in range(400)}
    assert pseudo_counts_of_contents(alone) == CONTENT_PSEUDO_COUNTS
    chance = random.Random(1)
    drawn = Counter(
        (f"{i}", "anomalous" if chance.random() < 0.2 else "normal") for i in range(2_000) for _ in range(3)
    )
    normal, anomalous = pseudo_counts_of_contents(drawn)
    # labels that have nothing to do with the contents: one more says nothing
    assert normal / (normal + anomalous) == pytest.approx(0.8, abs=0.05)
    assert normal + anomalous > 10


def test_a_row_that_occurred_once_is_not_decided_where_equal_rows_differ(tmp_path: Path) -> None:
    chance = random.Random(2)

    def row() -> tuple[int, int, str, int]:
        bad = chance.random() < 0.15
        return min(max(round(chance.gauss(45 + 8 * bad, 12)), 18), 90), chance.randint(0, 4), chance.choice("abc"), bad

    lines = [",".join(map(str, row())) for _ in range(800)]
    with closing(AppContext(make_settings(tmp_path / "home", model="none"))) as context:
        learned(context, tmp_path, "rows.csv", "age,visits,plan,label\n" + "\n".join(lines) + "\n", "label")
        once = [case for case in context.casebook.cases("s") if case.occurrences == 1][:80]
        chain = build(context)
        requests = [JudgeRequest(record=Record(text=case.text, fields=case.fields), source="s") for case in once]
        verdicts = chain.batch(requests)
    assert max(verdict.probability for verdict in verdicts) < 0.8
    assert sum(verdict.label == "unsure" for verdict in verdicts) > 40


def test_a_row_equal_to_a_case_has_its_label_where_labels_are_unbalanced(tmp_path: Path) -> None:
    chance = random.Random(3)
    labels = [int(chance.random() < 0.1) for _ in range(300)]
    lines = [f"{chance.gauss(4 * label, 3):.4f},{chance.random():.4f},{label}" for label in labels]
    with closing(AppContext(make_settings(tmp_path / "home", model="none"))) as context:
        learned(context, tmp_path, "rows.csv", "load,share,label\n" + "\n".join(lines) + "\n", "label")
        cases = context.casebook.cases("s")
        requests = [JudgeRequest(record=Record(text=case.text, fields=case.fields), source="s") for case in cases]
        verdicts = build(context).batch(requests)
    assert [verdict.label for verdict in verdicts] == [case.label for case in cases]
