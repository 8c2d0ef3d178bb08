"""The reference of a source without labels, from a whole batch of its records.

The log-odds of a small language model are biased by the prompt and the kind of record. An empty record shows only part
of that bias, so the log-odds of a batch are centred on the rate of anomalies that is assumed (batch calibration, Zhou
et al. 2023, arXiv 2309.17249), and the prompt shows what most records of the batch look like. Both are stored with the
source, so that a record gets the same verdict in every batch and alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from agent.core.errors import UsageError
from agent.core.progress import Progress
from agent.core.prompts import PromptVariant
from agent.core.records import Record
from agent.core.terminal import plural
from agent.data.readers import ParsedRow, RowError
from agent.detectors.language import BatchReference, LanguageDetector, system_message_sha256
from agent.pipeline.context import AppContext
from agent.pipeline.state import JudgingState, Source, source_model_of
from agent.scoring.calibration import Objective
from agent.scoring.fusion import UNLABELLED_WITH_LLM, Fusion, SourceModel
from agent.training.template_counts import TemplateCounts
from llm.errors import EngineBusy, ModelFailure
from retrieval.arrays import Floats
from retrieval.casebook import SourceSnapshot

# the share of anomalous records that is assumed if nobody gives it
DEFAULT_RATE = 0.05
# templates below which a batch shows nothing; a batch with so many times the templates of the one before replaces its
# reference
_FEWEST, _GROWTH = 10, 2
_FEWEST_CALLS = 30
# how many of the most frequent templates may be shown to the model as what most records look like, how many at least
# and at most are, and how far above an empty record the model's log-odds for them may be without them
_FREQUENT, _FEWEST_TYPICAL, _TYPICAL, _HIGHEST = 16, 4, 8, 1.5
# how much the reference by the assumed rate counts beside the empty record's
_ASSUMED = 0.7
# answers that may be missing, and the weight of the log-odds where the rate is known
_MISSING, _KNOWN_RATE_WEIGHT = 0.1, 1.0
# quantiles of the answers between which nearly all lie
_RANGE = (0.05, 0.95)
# range of the threshold where the rate is known, in log-odds
_THRESHOLDS = (UNLABELLED_WITH_LLM.threshold, 0.0)


def check_rate(rate: float) -> float:
    """Return the assumed rate of anomalies if it is possible.

    Raises
    ------
    UsageError
    """
    if not (math.isfinite(rate) and 0 < rate < 1):
        raise UsageError(f"--rate {rate:g}: it is the share of records that are anomalous, above 0 and below 1")
    return rate


def reference_of_files(
    context: AppContext,
    source: str,
    files: Sequence[str],
    read: Callable[[str, int], Iterable[ParsedRow | RowError]],
    *,
    rate: float | None = None,
    calls: int | None = None,
    until: float | None = None,
    progress: Progress | None = None,
) -> str | None:
    """`set_batch_reference` by the records of files; standard input, which is read once, gives no reference.

    Raises
    ------
    UsageError
        See `set_batch_reference`; or the rate is given and standard input is all there is.
    """
    again = [file for file in files if file != "-"]
    if not again:
        if rate is not None:
            raise UsageError("--rate: standard input cannot be read twice, judge a file first")
        return None

    def records() -> Iterator[Record]:
        for file in again:
            rows = read(file, context.settings.max_record_chars)
            yield from (row.record for row in rows if isinstance(row, ParsedRow))

    return set_batch_reference(context, source, records, rate=rate, calls=calls, until=until, progress=progress)


def set_batch_reference(
    context: AppContext,
    source: str,
    records: Callable[[], Iterable[Record]],
    *,
    rate: float | None = None,
    calls: int | None = None,
    until: float | None = None,
    progress: Progress | None = None,
) -> str | None:
    """Measure the reference of a source without labels on a batch, and store it, unless the source has one that holds.

    Parameters
    ----------
    context : AppContext
    source : str
    records : callable
        Gives the records of the batch; only called if a reference may be needed.
    rate : float, optional
        The share of anomalous records; None keeps the one given before, or assumes `DEFAULT_RATE`.
    calls : int, optional
        The most queries of the language model; None is the setting ``language_budget``.
    until : float, optional
        `time.monotonic` after which the model is not queried, and nothing is stored.
    progress : callable, optional

    Returns
    -------
    str or None
        A note for a person, on what was measured or why nothing was; None if nothing was to be done.

    Raises
    ------
    UsageError
        The rate is impossible, or it is given for a source whose rate is that of its labels.
    """
    row = context.source(source)
    if rate is not None:
        check_rate(rate)
        if any(row.counts.values()):
            raise UsageError(f"--rate: {source} has labelled cases, whose labels give the rate")
    if any(row.counts.values()):
        return None
    try:
        detector = context.language_detector()
    except ModelFailure as error:
        if rate is not None:
            raise UsageError(f"--rate: without a language model it has no use ({error})") from error
        return None
    earlier = _stored(row, detector)
    given = rate if rate is not None else earlier.rate if earlier and earlier.given else None
    if earlier and given != (earlier.rate if earlier.given else None):
        earlier = None
    most = context.settings.language_budget if calls is None else calls
    if most < _FEWEST_CALLS:
        # a reference that the source has already is as good as ever
        return None if earlier else f"{plural(most, 'call')} of the language model are too few to compare its answers"
    batch = _count(row, records(), progress)
    if len(batch.counts) < _FEWEST or (earlier and len(batch.counts) < _GROWTH * earlier.templates):
        few = f"a batch of {plural(len(batch.counts), 'template')} says too little of the rate of anomalies"
        return f"{few}: an empty record is the reference" if earlier is None else None
    measured = _measure(detector, row, batch, most, given, until, progress)
    if measured is None:
        return "the language model did not answer in time: its answers are compared with that to an empty record"
    reference = BatchReference(**(measured.batch_reference or {}))
    context.casebook.set(source, source_model=measured.to_json())
    return (
        f"{source} has no labels: the language model's answers are compared with those to "
        f"{reference.queried} of {plural(reference.templates, 'template')}; "
        f"{'' if reference.given else 'assumed '}rate of anomalies {reference.rate:g}"
    )


def _measure(
    detector: LanguageDetector,
    row: SourceSnapshot,
    batch: TemplateCounts,
    most: int,
    rate: float | None,
    until: float | None,
    progress: Progress | None,
) -> SourceModel | None:
    """The source's model with the reference of a batch; None if the language model gives too few answers."""
    prompt = PromptVariant(reference=0.0, templates=len(batch.counts))
    query = _Queries(detector, row.brief, until, progress)
    frequent = batch.most_frequent(_FREQUENT)
    # one call is about an empty record
    templates, sampled = batch.sample(most - len(frequent) - 1)
    try:
        plain, empty = query.answers(prompt, frequent), query.empty(prompt)
        typical = [masked for masked, value in zip(frequent, plain, strict=True) if value - empty <= _HIGHEST]
        if len(typical) >= _FEWEST_TYPICAL:
            prompt = replace(prompt, typical=tuple(typical[:_TYPICAL]))
            # an empty record is unlike what is typical; what is frequent shows the effect of the longer prompt
            shift = query.answers(prompt, frequent) - plain
            known = ~np.isnan(shift)
            empty += float(np.average(shift[known], weights=[batch.counts[frequent[i]] for i in np.flatnonzero(known)]))
        answers = query.answers(prompt, templates)
    except (ModelFailure, EngineBusy):
        return None
    is_answered = ~np.isnan(answers)
    answers, weights = answers[is_answered], np.array(sampled)[is_answered]
    earlier = SourceModel.of(row.source_model, row.counts)
    reference, fusion = fit_reference(answers, weights, empty, rate, Objective.parse(earlier.objective))
    measured = BatchReference(
        rate=DEFAULT_RATE if rate is None else rate,
        given=rate is not None,
        templates=len(batch.counts),
        queried=len(answers),
        records=batch.records,
        prompt_sha256=system_message_sha256(row.brief, prompt),
        model=detector.model.name,
        model_sha256=detector.model.sha256,
        fusion=asdict(fusion),
    )
    low, high = np.quantile(answers - reference, _RANGE)
    return replace(
        earlier,
        prompt=replace(prompt, reference=reference),
        model=detector.model.name,
        with_llm=fusion,
        language_range=(float(low), float(high)),
        fitted_on=row.version,
        batch_reference=asdict(measured),
    )


def _stored(row: SourceSnapshot, detector: LanguageDetector) -> BatchReference | None:
    """The reference that the source has, if it still holds."""
    stored = source_model_of(row, detector.model).batch_reference
    return BatchReference(**stored) if stored else None


def _count(row: SourceSnapshot, records: Iterable[Record], progress: Progress | None) -> TemplateCounts:
    source, batch = Source.of(row), TemplateCounts()
    for record in records:
        batch.add(JudgingState.of(source, record, "none").masked)
        if progress and batch.records % 500 == 0:
            progress("counting templates", batch.records, 0)
    return batch


@dataclass
class _Queries:
    """Queries about templates; raises ModelFailure if too few are answered, or not in time."""

    detector: LanguageDetector
    brief: str
    until: float | None
    progress: Progress | None

    def answers(self, prompt: PromptVariant, templates: Sequence[str]) -> Floats:
        """The raw log-odds of templates, NaN where the model gave no answer."""
        answers, missing = list[float](), 0
        for number, masked in enumerate(templates, start=1):
            if self.until is not None and time.monotonic() >= self.until:
                raise ModelFailure("the time is over")
            signal = self.detector.query(self.brief, masked, prompt)
            answers.append(math.nan if signal.log_odds is None else signal.log_odds)
            missing += signal.log_odds is None
            if missing > _MISSING * len(templates):
                raise ModelFailure(str(signal.degraded))
            if self.progress:
                self.progress("querying the language model about templates", number, len(templates))
        return np.array(answers)

    def empty(self, prompt: PromptVariant) -> float:
        """The raw log-odds of an empty record."""
        return self.detector.content_free_log_odds(self.brief, prompt)


def fit_reference(
    answers: Floats, weights: Floats, empty: float, rate: float | None, objective: Objective
) -> tuple[float, Fusion]:
    """The reference for raw log-odds, and the fusion of the log-odds above it.

    A rate that a person gives is believed: the mean probability of the batch is that rate. Otherwise the assumed rate
    and the empty record give two references. The one used lies between them, and what is decided is what both decide
    alike.

    Parameters
    ----------
    answers, weights : shape (n,)
        Raw log-odds of the templates, and how many records each stands for.
    empty : float
        Raw log-odds of an empty record.
    rate : float or None
        The share of anomalous records, None if it is not known.
    objective : Objective
        What the threshold is chosen for.
    """
    fusion = UNLABELLED_WITH_LLM
    if rate is None:
        weight = fusion.weights["language"]
        batch = _centred(answers, weights, DEFAULT_RATE, weight, fusion.bias)
        reference = _ASSUMED * batch + (1 - _ASSUMED) * empty
        farther = max(abs(reference - batch), abs(reference - empty))
        fusion = replace(fusion, half_width=fusion.half_width + weight * farther)
    else:
        fusion = replace(fusion, weights={**fusion.weights, "language": _KNOWN_RATE_WEIGHT})
        reference = _centred(answers, weights, rate, _KNOWN_RATE_WEIGHT, fusion.bias)
        log_odds = fusion.bias + _KNOWN_RATE_WEIGHT * (answers - reference)
        fusion = replace(fusion, threshold=float(np.clip(_best_expected_f1(log_odds, weights), *_THRESHOLDS)))
    if not objective.f1:
        fusion = replace(fusion, threshold=objective.least_cost)
    return reference, fusion


def _centred(answers: Floats, weights: Floats, rate: float, weight: float, bias: float) -> float:
    """The reference with which the mean probability of the batch is ``rate``."""
    from scipy.optimize import brentq
    from scipy.special import expit

    def excess(reference: float) -> float:
        return float(np.average(expit(bias + weight * (answers - reference)), weights=weights)) - rate

    # where all probabilities are at least, or at most, the rate
    edge = (math.log(rate / (1 - rate)) - bias) / weight
    low, high = float(answers.min()) - edge, float(answers.max()) - edge
    return low if low == high else float(brentq(excess, low - 1, high + 1))


def _best_expected_f1(log_odds: Floats, weights: Floats) -> float:
    """The threshold with the best F1 that the probabilities themselves let expect."""
    from scipy.special import expit

    order = np.argsort(-log_odds, kind="stable")
    z, w = log_odds[order], weights[order]
    found = np.cumsum(w * expit(z))
    f1 = found / (np.cumsum(w) + found[-1])
    # a threshold lies between two different values
    f1[np.flatnonzero(z[:-1] == z[1:])] = -1.0
    best = int(np.argmax(f1))
    return float(z[best] if best + 1 == len(z) else (z[best] + z[best + 1]) / 2)
