"""DeepLog, LogAnomaly and LogBERT on sessions of a made-up lathe, and on HDFS where it is at hand."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agent.core.records import Record, Signal
from agent.detectors.base import DetectorInput, TrainingCase
from agent.detectors.contrib.deeplog import DeepLog
from agent.detectors.contrib.event_windows import NextEventNetwork, Training, Vocabulary, Windows
from agent.detectors.contrib.loganomaly import LogAnomaly
from agent.detectors.contrib.logbert import LogBert, LogBertNetwork
from agent.detectors.contrib.resources import showing_training
from agent.detectors.contrib.session_detector import Scale, SessionDetector
from benchmarks import sequences
from retrieval.types import RetrievalResult

CLASSES = (DeepLog, LogAnomaly, LogBert)
START, CLAMP, COOL, CUT, MEASURE, RELEASE, STOP = (
    *("spindle started at 900 rpm", "workpiece clamped with 40 bar", "coolant pump on", "cutting pass 3 done"),
    *("diameter measured: 12.4 mm", "workpiece released", "spindle stopped"),
)
GOOD = (START, CLAMP, COOL, CUT, CUT, MEASURE, RELEASE, STOP)
BAD = {
    "an unknown event": (START, CLAMP, COOL, CUT, "tool broke at 12 mm", MEASURE, RELEASE, STOP),
    "the wrong order": (START, COOL, MEASURE, CLAMP, CUT, STOP, CUT, RELEASE),
    "an early end": (START, CLAMP, COOL, CUT),
    "one event of the middle": (MEASURE,),
}


def embed(texts: Sequence[str]) -> list[np.ndarray]:
    """Unit vectors by words, so that texts with most words in common are near."""
    vectors = np.zeros((len(texts), 256), np.float32)
    for row, text in zip(vectors, texts, strict=True):
        for word in re.findall(r"\w+", text.lower()):
            row[zlib.crc32(word.encode()) % 256] += 1
    return list(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of a second, without the embedding model."""
    monkeypatch.setattr(LogAnomaly, "resources", SimpleNamespace(embed=embed))
    monkeypatch.setattr(NextEventNetwork, "training_settings", Training(epochs=10, batch=64, rate=2e-2, least=60))
    monkeypatch.setattr(LogBertNetwork, "training_settings", Training(epochs=10, batch=32, rate=8e-3, least=60))


def record(events: Sequence[str]) -> DetectorInput:
    return DetectorInput(Record(text="a session", events=tuple(events)), "", "", {}, RetrievalResult((), {}, {}, None))


def normal_sessions() -> list[tuple[str, ...]]:
    """One to five passes, coolant before or after the clamping, and measured once or twice."""
    return [
        (START, *begin, *[CUT] * passes, *[MEASURE] * measured, RELEASE, STOP)
        for begin in ((CLAMP, COOL), (COOL, CLAMP))
        for passes in range(1, 6)
        for measured in (1, 2)
    ]


def cases(anomalous: Sequence[Sequence[str]] = ()) -> list[TrainingCase]:
    good = [TrainingCase(record(session), False, None, 5) for session in normal_sessions()]
    return good + [TrainingCase(record(session), True) for session in anomalous]


def fitted(detector: type[SessionDetector], given: Sequence[TrainingCase]) -> SessionDetector:
    made = detector.fit(given)
    assert made is not None
    return made


@cache
def of_the_lathe(detector: type[SessionDetector]) -> SessionDetector:
    return fitted(detector, cases())


def log_odds(detector: SessionDetector, *sessions: Sequence[str]) -> list[float]:
    values = [signal.log_odds for signal in detector.score([record(session) for session in sessions])]
    assert all(value is not None and np.isfinite(value) for value in values)
    return values  # type: ignore[return-value]


@pytest.mark.parametrize("detector", CLASSES)
def test_what_is_unlike_normal_sessions_is_anomalous_and_explained(detector: type[SessionDetector]) -> None:
    made = of_the_lathe(detector)
    (good,) = log_odds(made, GOOD)
    assert good < 0
    for what, events in BAD.items():
        (signal,) = made.score([record(events)])
        assert signal.log_odds is not None, what
        assert signal.log_odds > max(0, good + 1), what
    (signal,) = made.score([record(BAD["an unknown event"])])
    assert signal.facts[0] == "event “tool broke at <n> mm” at position 5 is in no normal session"
    assert made.score([record(GOOD)])[0].facts == ()
    for signal in made.score([record(events) for events in BAD.values()]):
        assert signal.facts, "what is anomalous has a reason"


def test_facts_name_the_event_its_position_and_what_was_expected() -> None:
    made = of_the_lathe(DeepLog)
    (signal,) = made.score([record(BAD["an early end"])])
    # the lathe has fewer kinds of event than the nine that count as likely, so that the probability decides
    end = "the session ends after 4 events, where an end is less likely than 1 in 1,000 after the 4 before it"
    assert signal.facts == (end,)
    (signal,) = made.score([record((STOP, *GOOD))])
    assert signal.facts[0] == "event “spindle stopped” at position 1 is less likely than 1 in 1,000 after the start"
    (signal,) = made.score([record((*GOOD[:4], "tool broke", "tool lost", *GOOD[4:]))])
    assert re.fullmatch(r"unexpected events in this session: [2-9]", signal.facts[1])
    assert DeepLog.expectation(14, 10) == "not among the 9 likeliest after the 10 before it"
    assert LogBert.expectation(3, 12) == "not among the 9 likeliest there, given the other events"


@pytest.mark.parametrize("detector", CLASSES)
def test_a_score_is_independent_of_other_records_and_of_saving(detector: type[SessionDetector]) -> None:
    made = of_the_lathe(detector)
    sessions = [*BAD.values(), *normal_sessions(), GOOD * 30]
    together = made.score([record(session) for session in sessions])
    packed = io.BytesIO()
    np.savez(packed, **{key: np.asarray(value) for key, value in made.save().items()})
    packed.seek(0)
    with np.load(packed, allow_pickle=False) as arrays:
        loaded = detector.load(dict(arrays))
    for i, session in enumerate(sessions):
        (alone,) = loaded.score([record(session)])
        assert alone.log_odds == pytest.approx(together[i].log_odds, abs=1e-5)
        assert alone.facts == together[i].facts


@pytest.mark.parametrize("detector", [DeepLog, LogBert])
def test_fits_are_reproducible_and_see_normal_cases_only(detector: type[SessionDetector]) -> None:
    torch.manual_seed(1)
    expected, threads = torch.rand(2).tolist(), torch.get_num_threads()
    torch.manual_seed(1)
    first = fitted(detector, cases())
    assert torch.rand(2).tolist() == expected, "a fit leaves the generator of the process alone"
    assert torch.get_num_threads() == threads
    second = fitted(detector, [*cases(BAD.values())][::-1])
    assert log_odds(first, GOOD, *BAD.values()) == log_odds(second, GOOD, *BAD.values())


@pytest.mark.parametrize("detector", [DeepLog, LogBert])
def test_out_of_fold_scores_are_of_networks_that_have_not_seen_the_case(detector: type[SessionDetector]) -> None:
    odd = (START, CLAMP, "chuck jaws changed", COOL, CUT, MEASURE, RELEASE, STOP)
    given = [*cases(BAD.values()), TrainingCase(record(odd), False, None, 100)]
    made = fitted(detector, given)
    folds = np.arange(len(given)) % 5
    held_out = made.out_of_fold(given, folds)
    assert held_out.shape == (len(given),)
    assert np.isfinite(held_out).all()
    if detector is DeepLog:
        assert held_out[-1] > log_odds(made, odd)[0], "its event is unknown to the networks of the other folds"
    assert held_out[-1 - len(BAD) : -1].tolist() == log_odds(made, *BAD.values()), "no network has seen these"
    loaded = detector.load({key: np.asarray(value) for key, value in made.save().items()})
    np.testing.assert_array_equal(loaded.out_of_fold(given, folds), held_out)


@pytest.mark.parametrize("detector", CLASSES)
def test_too_little_to_learn_from(detector: type[SessionDetector]) -> None:
    assert detector.fit([]) is None
    assert detector.fit([TrainingCase(record(session), True, None, 50) for session in BAD.values()]) is None
    assert detector.fit([TrainingCase(record(GOOD), False)] * 3) is None
    assert detector.fit([TrainingCase(record(()), False)] * 30) is None


def test_sessions_that_are_nearly_alike_do_not_make_small_differences_anomalous() -> None:
    numbers = np.array([[0.020], [0.021], [0.022]])
    scale = Scale.of(numbers, np.array([5, 5, 5]), 1.0)
    assert scale.log_odds(np.array([[0.03], [1.8]])).tolist()[0] < 0 < scale.log_odds(np.array([[1.8]]))[0]


def test_noise_in_the_last_digits_does_not_make_a_normal_session_anomalous() -> None:
    numbers = np.array([[0.5, 0.02]])
    scale = Scale.of(numbers, np.array([50]), None)
    assert (scale.log_odds(numbers + np.array([[1e-9, -1e-9], [-1e-9, 1e-9]])) < 0).all()


@pytest.mark.parametrize("detector", [DeepLog, LogBert])
@pytest.mark.parametrize(
    "alike", [[TrainingCase(record(GOOD), False, None, 100)], [TrainingCase(record(GOOD), False)] * 9]
)
def test_one_distinct_session(detector: type[SessionDetector], alike: list[TrainingCase]) -> None:
    made = fitted(detector, alike)
    good, unknown = log_odds(made, GOOD, BAD["an unknown event"])
    assert good < 0 < unknown


@pytest.mark.parametrize("detector", CLASSES)
def test_records_of_any_length(detector: type[SessionDetector]) -> None:
    made = of_the_lathe(detector)
    assert made.score([]) == []
    assert made.score([record(()), record(GOOD), record(())])[::2] == [Signal(), Signal()]
    long = (START, CLAMP, COOL, *[CUT] * 4_990, MEASURE, RELEASE, STOP)
    with_odd = (*long[:2_500], "tool broke at 12 mm", *long[2_501:])
    (signal,) = made.score([record(with_odd)])
    assert signal.facts[0] == "event “tool broke at <n> mm” at position 2501 is in no normal session"
    assert signal.log_odds is not None
    assert signal.log_odds >= log_odds(made, long)[0]


def test_a_reworded_event_is_its_nearest_known_one_for_loganomaly_alone() -> None:
    reworded = (START, CLAMP, "the coolant pump on", *GOOD[3:])
    semantic, by_name = of_the_lathe(LogAnomaly), of_the_lathe(DeepLog)
    assert log_odds(semantic, reworded) == log_odds(semantic, GOOD)
    assert log_odds(by_name, reworded)[0] > 0
    # in one word there is no meaning to go by
    names = [
        TrainingCase(record([re.sub(r"\W.*", "", event) + "-on" for event in session]), False, None, 5)
        for session in normal_sessions()
    ]
    assert log_odds(fitted(LogAnomaly, names), ("spindle-on", "coolant-off"))[0] > 0


def test_progress_counts_the_steps_of_every_training() -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    with showing_training(lambda what, done, total: seen.setdefault(what, []).append((done, total))):
        fitted(DeepLog, cases())
    assert [*seen] == [*(f"training deeplog (part {part} of 3)" for part in (1, 2, 3)), "training deeplog (all)"]
    for steps in seen.values():
        assert [done for done, _ in steps] == list(range(1, steps[0][1] + 1))


def test_windows_are_distinct_and_lead_back_to_their_steps() -> None:
    sessions = [np.array([3, 4, 3]), np.array([3]), np.array([3, 4, 3])]
    windows = Windows.of(sessions)
    assert windows.first.tolist() == [0, 4, 6]
    steps = windows.rows[windows.of_step]
    assert steps[:4, -1].tolist() == [3, 4, 3, 1]
    assert steps[2].tolist() == [0] * 8 + [3, 4, 3]
    assert steps[4:6].tolist() == [[0] * 10 + [3], [0] * 9 + [3, 1]]
    assert len(windows.rows) == 5, "steps of equal sessions share windows"
    np.testing.assert_allclose(windows.weights(np.array([1.0, 9.0, 1.0])).max(), np.sqrt(11))


def test_rare_kinds_share_a_code() -> None:
    vocabulary = Vocabulary.fit([(f"kind-{i}", "common") for i in range(1_500)])
    assert len(vocabulary) == 1_003
    # of equally frequent ones the first by name
    assert vocabulary.encode(("common", "kind-1", "kind-999", "never")).tolist() == [3, 5, 2, 2]


@pytest.mark.parametrize(("rule", "share"), [(1.0, 0.04), (1.95, 0.025), (1.999, 0.01), (None, 0.01)])
def test_even_odds_are_at_the_rule_within_bounds(rule: float | None, share: float) -> None:
    numbers, times = np.linspace(0.0, 2.0, 10_000)[:, None], np.ones(10_000, np.int64)
    scale = Scale.of(numbers, times, rule)
    log_odds = scale.log_odds(numbers)
    assert (log_odds > 0).mean() == pytest.approx(share, abs=0.001)
    assert scale.percentage(float(log_odds[9_000])) == 89
    many = Scale.of(numbers, times * 1_000_000, rule)
    assert len(many.tails[0].values) <= 20_000, "what is stored is bounded"
    np.testing.assert_allclose(many.log_odds(numbers), log_odds, atol=0.8)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, agent.detectors.contrib; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.data
def test_the_published_order_of_quality_on_hdfs(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of the sessions and short trainings: `python -m benchmarks.sequences` has the full figures."""
    if not (data / "hdfs").is_dir():
        pytest.skip("HDFS is not here")
    monkeypatch.setattr(LogAnomaly, "resources", None)
    monkeypatch.setattr(NextEventNetwork, "training_settings", Training(epochs=10, batch=128, rate=5e-3, least=150))
    monkeypatch.setattr(LogBertNetwork, "training_settings", Training(epochs=20, batch=64, rate=2e-3, least=100))
    task = sequences.hdfs(data, learned=0.2, anomalous=0.05)
    f1 = {name: sequences.measure(task, system).f1 for name, system in sequences.SYSTEMS.items()}
    assert f1["deeplog"] >= 0.90, f1
    assert f1["logbert"] >= 0.80, f1
    assert f1["loganomaly"] >= 0.90, f1
    assert f1["precedent (sequence)"] >= 0.90, f1
