"""Numbers that tell the labels apart: found by held-out cases, kept in templates, used at every door."""

from __future__ import annotations

import random

import pytest

from agent.bulk.template_grouping import TemplateGrouper
from agent.core.records import Record, Verdict
from agent.data.chunks import Chunk
from agent.data.read_options import ReadOptions
from agent.data.readers.row import ReadRequest
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.learn import learn
from agent.training.refit import refit
from agent.training.telling_numbers import find_telling_numbers
from tests.conftest import make_settings

LOG = ReadOptions(label="0")


def lines(n: int, seed: int, form: str, normal: list[int], anomalous: list[int]) -> list[tuple[str, bool]]:
    rng = random.Random(seed)
    labelled = []
    for _ in range(n):
        bad = rng.random() < 0.15
        code = rng.choice(anomalous if bad else normal)
        labelled.append((form.format(code=code, n=rng.randint(1, 99_999), few=rng.randint(1, 4)), bad))
    return labelled


@pytest.mark.parametrize(
    ("form", "place"),
    [
        ('h - [01/Mar/2024:10:00:00 +0000] "GET /a/{n} HTTP/1.1" {code} {n}', 'HTTP/<n>" '),
        ("worker {few}: task {n} ended, exit code {code}", "code "),
        ("level=info status={code} worker={few} ms={n}", "status="),
        ('{{"EventID": {code}, "RecordID": {n}, "cpu": {few}}}', 'EventID": '),
    ],
)
def test_the_place_that_tells_is_found_in_any_notation(form: str, place: str) -> None:
    texts, labels = zip(*lines(200, 1, form, [0, 200, 304], [500, 503]), strict=True)
    assert [(kept.place, kept.values) for kept in find_telling_numbers(texts, labels)] == [
        (place, frozenset({"0", "200", "304", "500", "503"}))
    ]


def test_two_places_that_tell_together_are_both_found() -> None:
    first = lines(200, 1, "unit a state={code} worker={few} ms={n}", [1, 2], [7, 8])
    second = lines(200, 2, "unit b error {code} worker={few} ms={n}", [0], [5])
    texts, labels = zip(*first, *second, strict=True)
    assert {kept.place for kept in find_telling_numbers(texts, labels)} == {"state=", "error "}


@pytest.mark.parametrize("n", [20, 100, 1_000])
def test_numbers_that_tell_nothing_stay_masked(n: int) -> None:
    for seed in range(10):
        texts, labels = zip(*lines(n, seed, "queue {few} code={code} id={n}", [1, 2, 3], [1, 2, 3]), strict=True)
        assert find_telling_numbers(texts, labels) == ()


def test_a_number_of_one_episode_is_not_taken() -> None:
    texts = [f"worker={i // 40} done {i}" for i in range(400)]
    # each worker's life is short: half of its lines are anomalous, no later one's
    assert find_telling_numbers(texts, [i % 40 < 20 and i < 200 for i in range(400)]) == ()


def test_without_templates_of_both_labels_nothing_is_looked_for() -> None:
    texts = ["start 1", "start 2", "stop 500", "stop 503"] * 10
    assert find_telling_numbers(texts, [text.startswith("stop") for text in texts]) == ()
    assert find_telling_numbers([], []) == ()


FORM = "job {n}: task {few} finished, exit code {code}"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> AppContext:
    folder = tmp_path_factory.mktemp("codes")
    context = AppContext(make_settings(folder / "home", model="none"))
    rows = lines(200, 3, FORM, [0], [1, 137])
    (folder / "jobs.log").write_text("".join(f"{'X' if bad else '-'} {text}\n" for text, bad in rows))
    result = learn(context, [folder / "jobs.log"], "jobs", LOG, brief="Jobs.")
    assert any("the number after “code ” tells" in note for note in result.case_notes)
    return context


def judged(context: AppContext, *texts: str) -> list[Verdict]:
    return [build(context).invoke({"text": text, "source": "jobs"}) for text in texts]


def test_verdicts_follow_the_number(source: AppContext) -> None:
    texts = ["job 3: task 2 finished, exit code 0", "job 3: task 2 finished, exit code 137"]
    assert [verdict.label for verdict in judged(source, *texts)] == ["normal", "anomalous"]


def test_a_number_that_no_case_has_is_never_normal(source: AppContext) -> None:
    (verdict,) = judged(source, "job 3: task 2 finished, exit code 9")
    assert verdict.label != "normal"
    assert "no case has “9” after “code ”" in verdict.explanation


def test_rebuilding_and_fitting_again_keep_it(source: AppContext) -> None:
    before = source.source("jobs").representation
    source.casebook.rebuild("jobs")
    refit(source, "jobs")
    assert source.source("jobs").representation == before
    assert before is not None
    assert before.kept


def test_bulk_groups_by_the_same_templates(source: AppContext) -> None:
    representation = source.source("jobs").representation
    assert representation is not None
    texts = [text for text, _ in lines(300, 4, FORM, [0, 9, 12], [1, 137])] + ["other 7", "exit code 137 é 0x7f"]
    data = "".join(f"{text}\n" for text in texts).encode()
    grouper = TemplateGrouper(representation, (), lambda key: False)
    request = ReadRequest(file="jobs.log", text=(), label=None, normal=frozenset(), max_chars=30_000)
    numbers = grouper.assign(grouper.prepare(Chunk(data, len(texts), 1, len(data)), request))
    keys = [grouper.groups[number].key for number in numbers.tolist()]
    assert keys == [representation.key(Record(text=text), "") for text in texts]
    assert len(set(keys)) == 6
