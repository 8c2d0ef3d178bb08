"""One draw of a task, with the functions of the commands: files, `learn`, `judge_many`."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent.core.prompts import PromptVariant
from agent.core.records import SIGNALS, Verdict
from agent.core.settings import settings
from agent.data.readers import ParsedRow
from agent.detectors.language import LanguageDetector, NearCase, examples_for
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.scoring.fusion import SourceModel
from agent.training.batch_adaptation import adapt_to_batch
from agent.training.batch_reference import set_batch_reference
from agent.training.learn import learn
from benchmarks.progress import Progress
from benchmarks.quality.baselines import encoding_once
from benchmarks.quality.figures import Figures, of_baseline, of_signal, of_verdicts
from benchmarks.quality.tasks import Draw, Task
from llm.errors import ModelFailure
from retrieval.encoding.representation import Representation
from retrieval.store.caches import LLMCache
from retrieval.store.engine import open_store

# records that the language model alone is measured on, over all draws of a task
_ALONE = 100
# cases of each label among which its examples are
_NEAREST = 4


class CachedContext(AppContext):
    """The product's parts on an empty data directory; what the language model answered outlives them in ``answers``."""

    def __init__(self, home: Path, model: str, answers: Path) -> None:
        chosen = {"home": home, "model": model, "store": None, "chroma": None}
        super().__init__(settings().model_copy(update=chosen))
        self.llm_cache = _CountingCache(open_store(f"sqlite:///{answers}"))
        self._caching_detector: LanguageDetector | None = None

    def warm(self) -> None:
        """Load the models, so that no task's seconds hold it."""
        self.embedder().encode(["warm"])
        with suppress(ModelFailure):
            self.language_detector()

    def plain_detector(self) -> LanguageDetector:
        model = super().plain_detector().model
        if self._caching_detector is None:
            self._caching_detector = LanguageDetector(model, self.llm_cache, self.settings.record_tokens)
        return self._caching_detector


class _CountingCache(LLMCache):
    """Cached answers, and the distinct questions, answered now or in an earlier run."""

    questions: set[str]

    def get(self, question: str) -> float | None:
        self.questions.add(question)
        return super().get(question)


def run(
    context: CachedContext, task: Task, seed: int, limit: int | None, progress: Progress, *, adapt: bool = False
) -> Figures:
    """The figures of one draw; of what is judged, a seeded sample of ``limit``. ``adapt``: as `judge --adapt` does."""
    draw = task.draw(seed)
    judged = draw.judged
    if limit is not None and limit < len(judged):
        judged = [judged[i] for i in sorted(random.Random(seed).sample(range(len(judged)), limit))]
    source, context.llm_cache.questions = f"{task.name}-{seed}", set()
    with tempfile.TemporaryDirectory() as folder:
        cases, to_judge = Path(folder) / f"learn{task.suffix}", Path(folder) / f"judge{task.suffix}"
        _write(cases, draw, draw.learned)
        _write(to_judge, draw, judged)
        started = time.perf_counter()
        drafted = 0
        if draw.learned:
            done = learn(context, [cases], source, task.intake, brief=task.brief, progress=progress)
            drafted = done.brief_drafted
            for wrong in done.unreadable:
                raise ValueError(f"{task.name}: {wrong}")
        else:
            context.casebook.create(source)
            context.casebook.set(source, brief=task.brief, brief_by="person")
        learning = time.perf_counter() - started
        known, readings = _readings(context, task, cases if draw.learned else None), _readings(context, task, to_judge)

    started = time.perf_counter()
    if adapt:
        progress(adapt_to_batch(context, source, (one.record for one in readings)), 0, 1)
    verdicts, truth = _judged(context, source, readings, progress)
    judging = time.perf_counter() - started
    calls = len(context.llm_cache.questions) + drafted
    figures: Figures = {
        "labels": len(known),
        "anomalous_labels": sum(one.label == "anomalous" for one in known),
        "anomalous": sum(truth),
        "unjudged": len(readings) - len(verdicts),
        "degraded": sum(bool(verdict.degraded) for verdict in verdicts),
        "llm_calls": calls,
        "fused": of_verdicts(verdicts, truth),
        "signals": _signals(context, source, verdicts, truth, seed, _ALONE // task.draws, progress),
        "baselines": {},
        "seconds": {"learning": learning, "judging": judging},
    }
    labels = [one.label == "anomalous" for one in readings]
    encode = encoding_once(context.embedder().encode)
    for name, baseline in task.baselines.items():
        progress(name, 0, 1)
        probability = baseline(known, readings, encode)
        figures["baselines"][name] = of_baseline(probability, [one.record for one in readings], labels)
    context.casebook.remove(source)
    context.batch_models.clear()
    return figures


def _write(path: Path, draw: Draw, lines: Sequence[str]) -> None:
    path.write_text("\n".join([*([draw.header] if draw.header else []), *lines]) + "\n", encoding="utf-8")


def _readings(context: AppContext, task: Task, path: Path | None) -> list[ParsedRow]:
    if path is None:
        return []
    return [one for one in task.intake.read(path, context.settings.max_record_chars) if isinstance(one, ParsedRow)]


def _judged(
    context: AppContext, source: str, readings: Sequence[ParsedRow], progress: Progress
) -> tuple[list[Verdict], list[bool]]:
    verdicts, truth = [], []
    if note := set_batch_reference(context, source, lambda: (one.record for one in readings), progress=progress):
        progress(note, 0, 1)
    answers = judge_many(context, build(context), (one.record for one in readings), source, explain="none")
    for number, (answer, reading) in enumerate(zip(answers, readings, strict=True), start=1):
        if isinstance(answer, Verdict):
            verdicts.append(answer)
            truth.append(reading.label == "anomalous")
        progress("judging", number, len(readings))
    return verdicts, truth


def _signals(
    context: AppContext,
    source: str,
    verdicts: Sequence[Verdict],
    truth: Sequence[bool],
    seed: int,
    most: int,
    progress: Progress,
) -> Figures:
    """Each signal's figures; the language model's on at most ``most`` records, because it is seldom queried."""
    probabilities = [verdict.probability for verdict in verdicts]
    out = {
        name: of_signal([verdict.signals[name] for verdict in verdicts], probabilities, truth)
        for name in SIGNALS
        if name != "language"
    }
    try:
        detector = context.language_detector()
    except ModelFailure:
        return {name: one for name, one in out.items() if one["n"]}
    chosen, weights = _balanced(truth, most, seed)
    row = context.casebook.source(source)
    assert row is not None
    prompt = SourceModel.of(row.source_model, row.counts).prompt_for(detector.model.name) or PromptVariant()
    log_odds = []
    for number, i in enumerate(chosen, start=1):
        representation = row.representation or Representation()
        found = context.casebook.find(source, verdicts[i].record, verdicts[i].record.content_hash, _NEAREST)
        near = [NearCase(near.similarity, near.case.label, representation.masked(near.case)) for near in found.nearest]
        masked = representation.masked(verdicts[i].record)
        log_odds.append(detector.query(row.brief, masked, prompt, examples_for(near, prompt)).log_odds)
        progress("querying the language model alone", number, len(chosen))
    language = of_signal(log_odds, [probabilities[i] for i in chosen], [truth[i] for i in chosen], weights)
    return {name: one for name, one in {"language": language, **out}.items() if one["n"]}


def _balanced(truth: Sequence[bool], most: int, seed: int) -> tuple[list[int], list[float]]:
    """At most ``most`` indices, both labels alike as far as there are enough, and how many records each stands for."""
    rng = random.Random(seed)
    by_label = [[i for i, anomalous in enumerate(truth) if anomalous is label] for label in (False, True)]
    fewer = min(map(len, by_label))
    chosen: dict[int, float] = {}
    for indices in by_label:
        size = min(len(indices), max(most // 2, most - fewer))
        chosen |= {i: len(indices) / size for i in rng.sample(indices, size)}
    return sorted(chosen), [chosen[i] for i in sorted(chosen)]
