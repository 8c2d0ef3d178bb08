"""Which prompt a model for `ollama run` gets, on which cases it is tried, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage

from agent.cli import ollama as ollama_commands
from agent.core.errors import UnknownSource
from agent.core.settings import settings as app_settings
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training import ollama_answers
from agent.training.learn import learn
from agent.training.ollama_answers import Figures, is_in, parsed, quotations
from agent.training.ollama_cases import source_cases, trial_cases
from agent.training.ollama_export import LocalModel, adapted, compose, tried
from agent.training.ollama_forms import deciding_words, few_shot_prompt, word_counts
from agent.training.ollama_trial import FORMS, Trial, cases_within
from llm.errors import ModelFailure, NoAnswer, NoLogProbabilities
from llm.weights.resolver import resolve
from tests.conftest import Run, make_settings

THINGS = [
    "pump",
    "valve",
    "fan",
    "belt",
    "motor",
    "gauge",
    "lamp",
    "filter",
    "boiler",
    "tank",
    "hatch",
    "crane",
    "lift",
    "gate",
    "hoist",
    "rail",
    "drum",
    "mixer",
    "oven",
    "press",
]
PARTS = ["inlet", "outlet", "cover", "shaft", "housing", "bearing"]
GOOD = ("{} {} inspected and in order", "{} {} cleaned on schedule", "regular test of the {} {} passed")
BAD = ("{} {} is broken", "{} {} leaks oil: emergency stop", "smoke at the {} {}, alarm raised")


def lines(label: str, count: int) -> list[str]:
    forms = GOOD if label == "normal" else BAD
    pairs = [(thing, part) for part in PARTS for thing in THINGS]
    return [forms[i % len(forms)].format(*pairs[i]) for i in range(count)]


def learned(context: AppContext, folder: Path, normal: int, anomalous: int) -> None:
    file = folder / "machines.csv"
    rows = [(label, line) for label, n in (("normal", normal), ("broken", anomalous)) for line in lines(label, n)]
    file.write_text("label,text\n" + "".join(f'{label},"{line}"\n' for label, line in rows), encoding="utf-8")
    options = ReadOptions(format="csv", label="label", normal=("normal",), text=("text",))
    learn(context, [file], "machines", options, brief="Machines. Anomalous: damage.", budget=0)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppContext]:
    folder = tmp_path_factory.mktemp("machines")
    context = AppContext(make_settings(folder / "home", model="none"))
    learned(context, folder, 80, 70)
    yield context
    context.close()


class Machinist:
    """A model that knows which machines are damaged, as surely as ``score`` says for a conversation."""

    name, sha256 = "test:machinist", None

    def __init__(self, score: Callable[[list[str], bool], float], quote: str = "{}", by_text: bool = False) -> None:
        self.score, self.quote, self.by_text = score, quote, by_text
        self.asked: list[tuple[list[str], str]] = []
        self.closed = False

    def answer_log_probabilities(self, messages: Sequence[BaseMessage], answers: Sequence[str]) -> dict[str, float]:
        if self.by_text:
            raise NoLogProbabilities("none")
        log_odds = self._log_odds(messages)
        return {"anomalous": log_odds / 2, "normal": -log_odds / 2}

    def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
        label = "anomalous" if self._log_odds(messages) > 0 else "normal"
        quoting = any("“" in str(message.content) for message in messages)
        record = str(messages[-1].content)
        yield f"{label}, probably\n"
        yield f"Reason: the words “{self.quote.format(record)}”." if quoting else "Reason: it is like others."

    def structured(self, messages: Sequence[BaseMessage], schema: Mapping[str, Any], attempt: int = 0) -> str:
        raise ModelFailure("no schema")

    def clip(self, text: str, max_tokens: int) -> tuple[str, int]:
        return text, 0

    def room(self, messages: Sequence[BaseMessage]) -> int:
        return 1000

    def close(self) -> None:
        self.closed = True

    def _log_odds(self, messages: Sequence[BaseMessage]) -> float:
        shown = [str(message.content) for message in messages[1:-1] if not isinstance(message, AIMessage)]
        record = str(messages[-1].content)
        self.asked.append((shown, record))
        labels = [str(message.content).split(",")[0] for message in messages if isinstance(message, AIMessage)]
        return self.score(labels, any(word in record for word in ("broken", "leaks", "smoke")))


def knowing(labels: list[str], damaged: bool) -> float:
    return 1.0 if damaged else -1.0


def test_the_form_is_taken_with_which_the_answers_are_right(machines: AppContext) -> None:
    """A model that always repeats the last label but for one form."""
    for form in FORMS:
        brief, cases = "Machines.", source_cases(machines.casebook, machines.source("machines"), 8)
        wanted = [
            text.split(",")[0]
            for role, text in few_shot_prompt(brief, cases.examples, form).turns
            if role == "assistant"
        ]

        def score(labels: list[str], damaged: bool, wanted: list[str] = wanted) -> float:
            return knowing(labels, damaged) if labels == wanted else 3.0

        choice = Trial(Machinist(score), brief, cases).choose()
        chosen = few_shot_prompt(brief, cases.examples, choice.form).turns
        assert [text.split(",")[0] for role, text in chosen if role == "assistant"] == wanted
        assert choice.figures is not None
        assert choice.figures.balanced_accuracy == 1


def test_no_case_that_is_tried_is_in_the_prompt_and_figures_are_of_others_than_the_choice(machines: AppContext) -> None:
    model = Machinist(knowing)
    choice = tried(machines.casebook, "machines", lambda: model, 250)
    assert model.closed
    assert all(record not in shown for shown, record in model.asked)
    assert len(model.asked) <= 250
    cases = source_cases(machines.casebook, machines.source("machines"), cases_within(250))
    chosen, measured = (
        {case.text for each in rounds for case in each.held_out} for rounds in (cases.choice, cases.confirmation)
    )
    assert not chosen & measured
    in_prompt = {text for role, text in compose(machines.casebook, "machines", "x", None, choice).messages}
    assert not in_prompt & (chosen | measured)
    assert choice.figures is not None
    assert choice.figures.total["normal"] == choice.figures.total["anomalous"] >= 8


def test_a_model_that_quotes_what_is_not_there_gets_a_form_without_quotes(machines: AppContext) -> None:
    honest = tried(machines.casebook, "machines", lambda: Machinist(knowing), 250)
    assert honest.form.quoting
    assert honest.figures is not None
    assert honest.figures.quotes == honest.figures.true_quotes == honest.figures.count
    inventing = tried(machines.casebook, "machines", lambda: Machinist(knowing, "no {} at all"), 250)
    assert not inventing.form.quoting
    assert inventing.figures is not None
    assert inventing.figures.quotes == 0
    messages = compose(machines.casebook, "machines", "x", None, inventing).messages
    assert not any("“" in text for _, text in messages)


def test_a_server_without_log_probabilities_is_asked_for_text(machines: AppContext) -> None:
    choice = tried(machines.casebook, "machines", lambda: Machinist(knowing, by_text=True), 250)
    assert choice.figures is not None
    assert choice.figures.accuracy == 1


def test_a_model_that_gives_no_label_is_not_better_than_chance(machines: AppContext) -> None:
    class Silent(Machinist):
        def answer_log_probabilities(self, messages: Sequence[BaseMessage], answers: Sequence[str]) -> dict[str, float]:
            raise NoAnswer("babble")

        def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
            yield "I cannot say."

    choice = tried(machines.casebook, "machines", lambda: Silent(knowing), 250)
    assert choice.figures is not None
    assert choice.figures.formed == choice.figures.accuracy == 0
    assert not choice.figures.better_than_one_label


@pytest.mark.parametrize(("normal", "anomalous"), [(40, 0), (0, 12), (40, 5)])
def test_a_source_with_too_few_cases_is_not_measured_and_has_both_labels_in_its_prompt(
    tmp_path: Path, normal: int, anomalous: int
) -> None:
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    learned(context, tmp_path, normal, anomalous)

    def unneeded() -> Machinist:
        raise AssertionError("the model was loaded")

    choice = tried(context.casebook, "machines", unneeded, 250)
    assert choice.figures is None
    assert f"{normal} normal and {anomalous} anomalous" in choice.why
    messages = compose(context.casebook, "machines", "x", None, choice).messages
    context.close()
    labels = [text.partition(",")[0] for role, text in messages if role == "assistant"]
    assert labels[0] == "anomalous"
    assert labels[-1] == "normal"


def test_few_cases_are_tried_by_turns(tmp_path: Path) -> None:
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    learned(context, tmp_path, 30, 10)
    model = Machinist(knowing)
    choice = tried(context.casebook, "machines", lambda: model, 250)
    context.close()
    assert all(record not in shown for shown, record in model.asked)
    assert choice.figures is not None
    assert choice.figures.total["anomalous"] >= 8


def test_an_unknown_source_is_an_error(machines: AppContext) -> None:
    with pytest.raises(UnknownSource):
        tried(machines.casebook, "nothing", lambda: Machinist(knowing), 250)


def figures(pairs: Sequence[tuple[bool, str]]) -> Figures:
    made = Figures()
    for anomalous, answer in pairs:
        made.add("disk full on node 3", anomalous, True, answer)
    return made


def test_figures_count_labels_forms_and_quotes() -> None:
    yes, no = "anomalous, probably\nReason: the words “disk full”.", "normal, probably\nReason: the words “node 4”."
    made = figures([(True, yes)] * 6 + [(True, no)] * 2 + [(False, no)] * 7 + [(False, "who knows")])
    assert made.accuracy == pytest.approx(13 / 16)
    assert made.balanced_accuracy == pytest.approx((6 / 8 + 7 / 8) / 2)
    assert made.f1("anomalous") == pytest.approx(2 * 6 / (2 * 6 + 3))
    assert made.f1("normal") == pytest.approx(2 * 7 / (2 * 7 + 3))
    assert (made.formed, made.quotes, made.true_quotes) == (15, 15, 6)
    assert "quoted are in the record in 6 of 15" in str(made)


@pytest.mark.parametrize(("right", "better"), [(20, True), (16, True), (12, False), (13, False), (5, False)])
def test_better_than_always_the_same_answer(right: int, better: bool) -> None:
    """24 cases of each label, ``right`` of each."""
    yes, no = "anomalous, probably", "normal, probably"
    pairs = [(label, yes if (i < right) is label else no) for label in (True, False) for i in range(24)]
    assert figures(pairs).better_than_one_label is better
    assert not figures([(i % 2 == 0, no) for i in range(48)]).better_than_one_label


@pytest.mark.parametrize(
    "text",
    ["FATAL: sorry, too many clients already", "a <n> b <n>", "<n>", "x", "kein Platz auf dem Gerät", "磁盘已满"],
)
def test_the_words_of_a_reason_are_a_part_of_the_record(text: str) -> None:
    words = deciding_words(text, word_counts([text]), word_counts([]))
    assert words
    assert is_in(words, text)


def test_deciding_words_are_those_of_the_label() -> None:
    broken, fine = word_counts(["pump lost all pressure today"]), word_counts(["pump seen by inspector smith today"])
    assert deciding_words("pump seen by smith lost all pressure", broken, fine).endswith("lost all pressure")


def test_what_an_answer_quotes_is_compared_by_words() -> None:
    answer = "anomalous, probably\nReason: the words “Disk  FULL”."
    assert parsed(answer) == ("anomalous", "probably")
    assert quotations(answer) == ["Disk  FULL"]
    assert quotations('normal, probably\nReason: the words "Disk  FULL".') == ["Disk  FULL"]
    assert is_in("Disk  FULL", "the disk full")
    assert not is_in("disk empty", "the disk full")


@pytest.mark.parametrize("force", [False, True])
def test_a_model_that_guesses_is_refused_without_force(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    rows = [(label, line) for label in ("normal", "broken") for line in lines(label, 60)]
    text = "label,text\n" + "".join(f'{label},"{line}"\n' for label, line in rows)
    (tmp_path / "machines.csv").write_text(text, encoding="utf-8")
    options = ("--source", "machines", "--label", "label", "--normal", "normal", "--budget", "0")
    assert run("learn", "machines.csv", *options).code == 0
    monkeypatch.setattr(ollama_commands, "_model", lambda settings, spec: Machinist(lambda labels, damaged: -1.0))
    done = run("ollama", "export", "out", "--from", "any", "-s", "machines", *(["--force"] if force else []))
    if not force:
        assert done.code == 2
        assert "no better than always the same answer" in done.err.lower()
        assert "--force" in done.err
        assert not (tmp_path / "out").exists()
        monkeypatch.setattr(ollama_commands, "_model", lambda settings, spec: Machinist(knowing))
        done = run("ollama", "export", "out", "--from", "any", "-s", "machines")
    assert done.code == 0, done.err
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    expected = "balanced accuracy 0.50" if force else "balanced accuracy 1.00"
    assert expected in readme
    assert expected in done.out


@pytest.fixture(scope="module")
def tiny() -> LocalModel:
    chosen = app_settings()
    return LocalModel(resolve("smollm2-135m", cache=chosen.cache, offline=True).path, 1024, threads=1)


def test_an_adapter_is_fitted_and_measured_on_cases_that_it_was_not_fitted_to(
    machines: AppContext, tiny: LocalModel
) -> None:
    """With a model that is no better than chance by itself."""
    seen: list[tuple[str, int, int]] = []
    choice = adapted(machines.casebook, "machines", tiny, 100, lambda *done: seen.append(done))
    assert choice.figures is not None
    assert choice.figures.balanced_accuracy > 0.85
    assert choice.figures.formed == choice.figures.count == 48
    assert choice.figures.true_quotes == choice.figures.quotes
    assert "of kinds" in choice.why
    assert sum(done == total for _, done, total in seen) >= 2
    modelfile = compose(machines.casebook, "machines", "x", None, choice)
    assert modelfile.adapter == choice.adapter
    assert "ADAPTER ./adapter.gguf" in modelfile.render()
    assert modelfile.stop == (() if choice.form.quoting else ("Reason:",))
    # the cases that it is fitted to and measured with are others than those of the prompt
    cases = trial_cases(machines.casebook, machines.source("machines"), 52)
    shown = {text for role, text in modelfile.messages if role == "user"}
    assert shown == {example.text for label in ("normal", "anomalous") for example in cases.examples[label]}
    assert not shown & set(cases.texts)


def test_an_adapter_that_makes_the_model_quote_what_is_not_there_gives_no_reasons(
    machines: AppContext, tiny: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ollama_answers, "is_in", lambda words, record: False)
    choice = adapted(machines.casebook, "machines", tiny, 100)
    assert choice.figures is not None
    assert choice.figures.quotes == 0
    assert compose(machines.casebook, "machines", "x", None, choice).stop == ("Reason:",)


def test_an_adapter_takes_enough_cases_and_calls(machines: AppContext, tmp_path: Path) -> None:
    nowhere = LocalModel(tmp_path / "not-loaded.gguf", 1024)
    few = adapted(machines.casebook, "machines", nowhere, 50)
    assert few.figures is few.adapter is None
    assert "50 calls" in few.why
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    learned(context, tmp_path, 40, 5)
    rare = adapted(context.casebook, "machines", nowhere, 400)
    context.close()
    assert rare.figures is rare.adapter is None
    assert "40 normal and 5 anomalous" in rare.why


def test_cases_to_fit_to_are_half_of_each_label_as_far_as_there_are_enough(machines: AppContext) -> None:
    row = machines.casebook.source("machines")
    assert row is not None
    # three cases of each label are in the prompt
    for most, anomalous, normal in ((40, 20, 20), (144, 67, 77), (500, 67, 77), (1, 0, 0)):
        cases = trial_cases(machines.casebook, row, most)
        assert (int(cases.anomalous.sum()), int((~cases.anomalous).sum())) == (anomalous, normal)
        assert len(set(cases.texts)) == len(cases.texts) == len(cases.kinds)
