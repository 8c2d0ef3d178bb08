"""`--adapt`: what a batch as a whole shows, without its labels."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.errors import UsageError
from agent.core.records import Record, Verdict
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.scoring.batch_rate import BatchProbabilities
from agent.scoring.fusion import SourceModel
from agent.training.batch_adaptation import adapt_to_batch, adapt_to_files
from agent.training.learn import learn
from agent.training.rate_note import note_on_rate
from tests.conftest import make_settings

_HEAD = "load,delay,label"


def row(rng: random.Random, anomalous: bool, label: bool = True) -> str:
    centre = 1.6 if anomalous else 0.0
    values = f"{rng.gauss(centre, 1):.4f},{rng.gauss(centre, 1):.4f}"
    return f"{values},{int(anomalous)}" if label else values


@pytest.fixture
def context(tmp_path: Path) -> Iterator[AppContext]:
    made = AppContext(make_settings(tmp_path / "home", model="none"))
    yield made
    made.close()


@pytest.fixture
def pumps(context: AppContext, tmp_path: Path) -> tuple[ReadOptions, Path, list[bool]]:
    """A source with 40 % anomalous cases, and a file of which 4 % are."""
    rng = random.Random(5)
    cases, batch = tmp_path / "cases.csv", tmp_path / "batch.csv"
    cases.write_text("\n".join([_HEAD, *(row(rng, number % 5 < 2) for number in range(150))]) + "\n")
    truth = [number % 25 == 0 for number in range(300)]
    batch.write_text("\n".join([_HEAD, *(row(rng, anomalous) for anomalous in truth)]) + "\n")
    options = ReadOptions(format="csv", label="label")
    learn(context, [cases], "pumps", options)
    return options, batch, truth


def judged(context: AppContext, options: ReadOptions, file: Path, source: str) -> list[Verdict]:
    records = [row.record for row in options.read(file, 10_000)]  # type: ignore[union-attr]
    return [v for v in judge_many(context, build(context), records, source) if isinstance(v, Verdict)]


def wrong(verdicts: list[Verdict], truth: list[bool]) -> int:
    return sum((verdict.leans == "anomalous") != anomalous for verdict, anomalous in zip(verdicts, truth, strict=True))


def test_a_batch_with_fewer_anomalies_than_the_cases_is_judged_with_its_own_rate(
    context: AppContext, pumps: tuple[ReadOptions, Path, list[bool]]
) -> None:
    options, file, truth = pumps
    before = judged(context, options, file, "pumps")
    note = adapt_to_files(context, "pumps", [str(file)], options.read)
    after = judged(context, options, file, "pumps")
    assert note.startswith("--adapt: these records look 0.")
    assert "against 40 %); that rate is assumed" in note
    assert wrong(after, truth) < wrong(before, truth)
    # a verdict says that it depends on a batch, and has an id of its own
    assert all(verdict.provenance.batch_sha256 for verdict in after)
    assert not any("batch_sha256" in verdict.model_dump_json() for verdict in before)
    assert not {verdict.id for verdict in before} & {verdict.id for verdict in after}
    # the source itself has not changed
    context.batch_models.clear()
    assert [v.probability for v in judged(context, options, file, "pumps")] == [v.probability for v in before]


def test_a_batch_in_another_order_gives_the_same_verdicts(
    context: AppContext, pumps: tuple[ReadOptions, Path, list[bool]]
) -> None:
    options, file, _ = pumps
    records = [row.record for row in options.read(file, 10_000)]  # type: ignore[union-attr]
    notes, models = [], []
    for order in (records, records[::-1], records * 2):
        notes.append(adapt_to_batch(context, "pumps", order))
        models.append(context.batch_models["pumps"])
    assert len(set(notes)) == 1
    assert models[0] == models[1] == models[2]


def test_a_batch_like_the_cases_a_small_one_and_an_empty_one_change_nothing(
    context: AppContext, pumps: tuple[ReadOptions, Path, list[bool]], tmp_path: Path
) -> None:
    options, file, _ = pumps
    rng, same = random.Random(6), tmp_path / "same.csv"
    same.write_text("\n".join([_HEAD, *(row(rng, number % 5 < 2) for number in range(300))]) + "\n")
    nothing = "--adapt changes nothing: the batch does not show another rate of anomalies than the cases"
    assert adapt_to_files(context, "pumps", [str(same)], options.read) == nothing
    records = [row.record for row in options.read(file, 10_000)]  # type: ignore[union-attr]
    assert adapt_to_batch(context, "pumps", records[:40]) == nothing
    assert adapt_to_batch(context, "pumps", []).endswith("0 records that no case equals are too few")
    assert not context.batch_models
    with pytest.raises(UsageError, match="standard input cannot be read twice"):
        adapt_to_files(context, "pumps", ["-"], options.read)


def test_a_batch_unlike_every_case_shows_no_rate(
    context: AppContext, pumps: tuple[ReadOptions, Path, list[bool]]
) -> None:
    """Jobs of another kind look anomalous, and their probabilities are not those of records like the cases."""
    rng = random.Random(7)
    records = [Record(fields={"load": 60 + rng.gauss(0, 1), "delay": -60 + rng.gauss(0, 1)}) for _ in range(120)]
    assert "most records are unlike every case" in adapt_to_batch(context, "pumps", records)
    assert not context.batch_models


def test_without_adapt_only_a_note_tells_that_the_rate_is_another(
    context: AppContext, pumps: tuple[ReadOptions, Path, list[bool]]
) -> None:
    options, file, _ = pumps
    batch = BatchProbabilities()
    for verdict in judged(context, options, file, "pumps"):
        batch.add(verdict.record.content_hash, verdict.record.content_hash, verdict.probability)
    note = note_on_rate(context, "pumps", batch)
    assert note is not None
    assert note.startswith("these records look 0.")
    assert note.endswith("--adapt judges them with that rate")
    adapt_to_files(context, "pumps", [str(file)], options.read)
    assert note_on_rate(context, "pumps", batch) is None


# texts


_NORMAL = (
    ("see you", "call me", "talk to you", "i will be there", "meet me", "wait for me"),
    ("later", "at home", "tomorrow", "after work", "at the station", "in the evening", "on sunday"),
    ("ok", "mum", "my dear", "please", "sorry i am late", "dont worry", "lol", "good night"),
)
_SPAM = (
    ("WIN a prize of £{}", "URGENT! you have won {} pounds", "FREE entry: {} tickets", "Claim your {} bonus NOW"),
    ("call 0900{} now", "text WIN to {}", "reply STOP {} to end", "visit www.prize{}.com"),
    ("T&Cs apply 150p/msg", "18+ only £1.50", "offer ends {}!", "code {} valid 24hrs"),
)


def message(rng: random.Random, spam: bool) -> str:
    words = " ".join(rng.choice(part) for part in (_SPAM if spam else _NORMAL))
    while "{}" in words:
        words = words.replace("{}", str(rng.randrange(100, 99_999)), 1)
    extra = "".join(rng.choice("abcdefghijklmnoprstuw") for _ in range(rng.randrange(4, 9)))
    return f"{words} {extra}"


def learn_messages(context: AppContext, tmp_path: Path, normal: int, spam: int) -> None:
    rng, file = random.Random(1), tmp_path / "messages.csv"
    lines = [f'0,"{message(rng, False)}"' for _ in range(normal)] + [f'1,"{message(rng, True)}"' for _ in range(spam)]
    file.write_text("\n".join(["label,text", *lines]) + "\n", encoding="utf-8")
    learn(context, [file], "messages", ReadOptions(format="csv", label="label", text=("text",)))


def messages(share: float, size: int = 260) -> tuple[list[Record], list[bool]]:
    rng = random.Random(2)
    truth = [rng.random() < share for _ in range(size)]
    return [Record(text=message(rng, spam)) for spam in truth], truth


def verdicts_of(context: AppContext, records: list[Record]) -> list[Verdict]:
    requests = [JudgeRequest.about(record, "messages", "none") for record in records]
    return list(build(context).batch(requests))


@pytest.mark.parametrize(("spam", "unsure"), [(3, 0.2), (0, 1.0)])
def test_two_groups_of_texts_are_found_from_few_labels(
    context: AppContext, tmp_path: Path, spam: int, unsure: float
) -> None:
    learn_messages(context, tmp_path, 17, spam)
    records, truth = messages(0.15)
    note = adapt_to_batch(context, "messages", records)
    verdicts = verdicts_of(context, records)
    assert "the texts fall into two groups" in note
    assert ("by normal cases alone" in note) == (not spam)
    assert wrong(verdicts, truth) <= 0.04 * len(truth)
    # groups that no anomalous case confirms are no confident verdict
    assert sum(verdict.label == "unsure" for verdict in verdicts) <= unsure * len(verdicts)
    assert spam or sum(verdict.label == "unsure" for verdict in verdicts) > 0.5 * len(verdicts)
    model = context.batch_models["messages"]
    assert adapt_to_batch(context, "messages", records[::-1] * 2) == note
    assert context.batch_models["messages"] == model


def test_texts_of_one_kind_are_not_forced_into_two_groups(context: AppContext, tmp_path: Path) -> None:
    learn_messages(context, tmp_path, 17, 3)
    records, _ = messages(0.0)
    assert adapt_to_batch(context, "messages", records).startswith("--adapt changes nothing")
    assert not context.batch_models


def test_the_cases_of_a_log_are_weighted_by_how_far_new_templates_are(context: AppContext, tmp_path: Path) -> None:
    parts, states = ("link", "disk", "fan", "node", "port", "cache", "queue", "timer"), ("up", "down", "idle", "busy")
    lines = [
        f"{int(state == 'down')},{part} {side} is {state} since {number} s"
        for part in parts
        for side in ("left", "right")
        for state in states
        for number in range(3)
    ]
    file = tmp_path / "log.csv"
    file.write_text("\n".join(["label,text", *lines]) + "\n")
    learn(context, [file], "messages", ReadOptions(format="csv", label="label", text=("text",)))
    sides = ("upper", "lower", "front", "rear")
    new = [
        Record(text=f"{part} {side} is {state} since {number} s")
        for part in parts
        for side in sides
        for state in states
        for number in range(4)
    ]
    known = context.source("messages").source_model
    assert known is not None
    note = adapt_to_batch(context, "messages", new)
    assert note == (
        "--adapt: the cases are weighted so that they are as far from each other as 128 new templates are from them"
    )
    model = context.batch_models["messages"]
    assert model.source_model["without_llm"] != known["without_llm"]
    unchanged = {**model.source_model, "without_llm": known["without_llm"]}
    assert SourceModel.from_json(unchanged) == SourceModel.from_json(known)
    assert adapt_to_batch(context, "messages", new[::-1]) == note
    assert context.batch_models["messages"] == model
    # what the casebook holds shows nothing new
    same = [Record(text=line.split(",", 1)[1]) for line in lines]
    assert adapt_to_batch(context, "messages", same).startswith("--adapt changes nothing")
    assert not context.batch_models


def test_a_source_without_normal_cases_is_left_as_it_is(context: AppContext) -> None:
    context.casebook.create("empty")
    assert "has no normal cases" in adapt_to_batch(context, "empty", [Record(text="x")])
