"""`--adapt`: a source's model for one batch of records, without labels of the batch.

One of three things is learned from the distinct records of a batch that are no cases: their rate of anomalies
(`agent.scoring.batch_rate`); for prose with few labels, the two groups that they fall into
(`agent.training.self_training`); for lines of templates, how far new ones are from the cases
(`agent.scoring.target_weights`). The source itself is not changed, and the order of the records does not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from agent.core.errors import UsageError
from agent.core.progress import Progress
from agent.core.records import Record
from agent.core.terminal import plural
from agent.data.readers import ParsedRow, RowError
from agent.detectors.novelty import is_unfamiliar, mostly_unfamiliar
from agent.detectors.persistence import FittedDetectors
from agent.detectors.text_classifier import Texts
from agent.pipeline.context import AppContext, BatchModel
from agent.pipeline.state import JudgingState, Source
from agent.pipeline.steps import Steps
from agent.scoring.batch_rate import RateShift, rate_shift
from agent.scoring.fusion import Fusion, SourceModel
from agent.training.contrib_choice import ContribChoice
from agent.training.fit import fusion_for_batch
from agent.training.kinds import are_lines_of_templates
from agent.training.rate_note import is_by_text
from agent.training.self_training import TwoGroups, find_two_groups
from retrieval.arrays import Bools
from retrieval.casebook import SourceSnapshot
from retrieval.encoding.representation import Representation
from retrieval.types import StoredCase

# distinct records that are kept and that are needed, contents of a template that are counted, records scored at once
_MOST, _FEWEST, _MOST_CONTENTS, _CHUNK = 20_000, 30, 16, 256
# texts among which two groups are searched for, how many there must be, and the labelled texts that are few
_TEXTS, _FEWEST_TEXTS, _FEW_CASES = 2_000, 200, 200
# half the width of the unsure band, in log-odds: groups by labels of both kinds, and by normal cases alone
_BY_LABELS, _BY_NORMAL_CASES = 1.0, 4.0
# cases of a label that are enough to compare them with the groups, and the share that must be in the right one
_TESTED, _RIGHT = 2, 0.75
Read = Callable[[str, int], Iterable[ParsedRow | RowError]]


def adapt_to_files(
    context: AppContext, source: str, files: Sequence[str], read: Read, progress: Progress | None = None
) -> str:
    """Let the ``context`` judge a source's records with a model for the batch of records of ``files``.

    Returns
    -------
    str
        A note for a person, on what was adapted or why nothing was.

    Raises
    ------
    UsageError
        Standard input is among the files.
    """
    if "-" in files:
        raise UsageError("--adapt: standard input cannot be read twice, write it to a file first")

    def records() -> Iterator[Record]:
        for file in files:
            rows = read(file, context.settings.max_record_chars)
            yield from (row.record for row in rows if isinstance(row, ParsedRow))

    return adapt_to_batch(context, source, records(), progress)


def adapt_to_batch(
    context: AppContext, source: str, records: Iterable[Record], progress: Progress | None = None
) -> str:
    """As `adapt_to_files`, by the records of a batch."""
    context.batch_models.pop(source, None)
    row = context.source(source)
    labels, cases = context.casebook.keys_by_label(source), context.casebook.templates(source)
    if not labels["normal"]:
        return f"--adapt changes nothing: {source} has no normal cases to compare the batch with"
    batch = _Batch.of(row, records, cases, progress)
    if len(batch.states) < _FEWEST:
        return f"--adapt changes nothing: {plural(len(batch.states), 'record')} that no case equals are too few"
    by_text = is_by_text(row)
    if by_text and (batch.is_of_templates or are_lines_of_templates(cases.values())):
        # new templates are new kinds of records, whose probabilities do not show how many are anomalous
        return _adapt_to_similarity(context, row, batch, progress)
    if by_text and sum(labels.values()) < _FEW_CASES:
        groups = _find_groups(context, row, batch.states)
        if groups is not None:
            context.batch_models[source] = _by_groups(row, groups, batch.sha256)
            beginning = "" if groups.by_labels else ", by normal cases alone: nearly all verdicts are unsure"
            return (
                f"--adapt: the texts fall into two groups, and the one with {100 * groups.share:.2g} % of "
                f"{plural(len(batch.states), 'different text')} is taken for anomalous{beginning}"
            )
    scored = list(_scored(context, batch.states, progress))
    if mostly_unfamiliar(sum(map(_is_unlike_all, scored)), len(scored)):
        return (
            "--adapt changes nothing: most records are unlike every case, so that nothing shows their rate of anomalies"
        )
    probabilities = np.array([state.fused()[0] for state in scored])
    shift = rate_shift(probabilities, labels["normal"], labels["anomalous"])
    if shift is None:
        return "--adapt changes nothing: the batch does not show another rate of anomalies than the cases"
    context.batch_models[source] = _by_rate(row, shift, batch.sha256)
    return f"--adapt: {shift}; that rate is assumed"


def _is_unlike_all(state: JudgingState) -> bool:
    nearest, distances = state.retrieved.nearest, state.source.model.nn_distance_quantiles
    return bool(nearest and distances) and is_unfamiliar(1 - nearest[0].similarity, distances, few=False)


def _adapt_to_similarity(context: AppContext, row: SourceSnapshot, batch: _Batch, progress: Progress | None) -> str:
    settings = context.settings
    signals = [state.log_odds["novelty"] or 0.0 for state in _scored(context, batch.states, progress)]
    fusion = fusion_for_batch(
        context.casebook,
        row.name,
        np.array(signals),
        precedents=settings.precedents,
        risk=settings.risk,
        choice=ContribChoice.of(context, row, None),
    )
    if fusion is None:
        return "--adapt changes nothing: the new templates are as near to the cases as these are to each other"
    model = replace(SourceModel.of(row.source_model, row.counts), without_llm=fusion)
    context.batch_models[row.name] = BatchModel(model.to_json(), None, batch.sha256)
    new = plural(len(batch.states), "new template")
    return f"--adapt: the cases are weighted so that they are as far from each other as {new} are from them"


@dataclass(frozen=True)
class _Batch:
    """The distinct records of a batch that are no cases, ordered by their keys.

    Parameters
    ----------
    states : list of JudgingState
        Of many records those with the smallest keys; of those with the same key the one with the smallest text.
    is_of_templates : bool
        Whether they are texts of which many share a template.
    sha256 : str
    """

    states: list[JudgingState]
    is_of_templates: bool
    sha256: str

    @classmethod
    def of(
        cls, row: SourceSnapshot, records: Iterable[Record], cases: Container[str], progress: Progress | None
    ) -> _Batch:
        source, representation = Source.of(row), row.representation or Representation()
        found, contents = dict[str, JudgingState](), dict[str, set[str]]()
        for number, record in enumerate(records, start=1):
            state = JudgingState.of(source, record, "none")
            key = representation.key(state.record, state.content_hash)
            if key not in cases:
                if key not in found or state.text < found[key].text:
                    found[key] = state
                if len(of_key := contents.setdefault(key, set())) < _MOST_CONTENTS:
                    of_key.add(state.content_hash)
            if len(found) > 2 * _MOST:
                found = {key: found[key] for key in sorted(found)[:_MOST]}
                contents = {key: contents[key] for key in found}
            if progress and number % 500 == 0:
                progress("reading the batch", number, 0)
        states = [found[key] for key in sorted(found)[:_MOST]]
        parts = [str(row.revision), *(state.content_hash for state in states)]
        sha256 = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        of_templates = is_by_text(row) and are_lines_of_templates([len(of_key) for of_key in contents.values()])
        return cls(states, of_templates, sha256)


def _scored(context: AppContext, batch: Sequence[JudgingState], progress: Progress | None) -> Iterator[JudgingState]:
    """The records with the signals of all detectors but the language model."""
    steps, states, done = Steps(context), iter(batch), 0
    while chunk := list(islice(states, _CHUNK)):
        yield from steps.score(chunk)
        done += len(chunk)
        if progress:
            progress("comparing the batch with the cases", done, len(batch))


# the rate


def _by_rate(row: SourceSnapshot, shift: RateShift, sha256: str) -> BatchModel:
    model = SourceModel.of(row.source_model, row.counts)
    with_llm, without_llm = shift.applied_to(model.with_llm), shift.applied_to(model.without_llm)
    return BatchModel(replace(model, with_llm=with_llm, without_llm=without_llm).to_json(), None, sha256)


# two groups of texts


def _find_groups(context: AppContext, row: SourceSnapshot, batch: Sequence[JudgingState]) -> TwoGroups | None:
    if len(batch) < _FEWEST_TEXTS:
        return None
    by_key = context.casebook.by_template(row.name)
    mixed = context.casebook.mixed_keys(row.name)
    stored = [case for (key, _), (case, _) in sorted(by_key.items()) if key not in mixed]
    anomalous = np.array([case.label == "anomalous" for case in stored])
    cases = _texts(context, row, stored)
    groups = find_two_groups(cases, anomalous, _texts(context, row, [state.record for state in batch[:_TEXTS]]))
    if groups is None or not _agrees(groups.of_cases > 0, anomalous):
        return None
    return groups


def _texts(context: AppContext, row: SourceSnapshot, records: Sequence[Record | StoredCase]) -> Texts:
    representation = row.representation
    assert representation is not None
    vectors = np.stack(context.casebook.vectors(row, records))
    masked = [representation.masked(record) for record in records]
    return Texts.of(vectors, masked, [representation.comparable_text(record) for record in records])


def _agrees(predicted: Bools, anomalous: Bools) -> bool:
    """Whether nearly all cases of each label, of which there are enough to say so, are in the right group."""
    labels = [label for label in (False, True) if (anomalous == label).sum() >= _TESTED]
    return all((predicted[anomalous == label] == label).mean() >= _RIGHT for label in labels)


def _by_groups(row: SourceSnapshot, groups: TwoGroups, sha256: str) -> BatchModel:
    """The model of a source whose texts are scored by the groups' classifier alone."""
    fusion = Fusion({"neighbours": 1.0}, bias=0.0, half_width=_BY_LABELS if groups.by_labels else _BY_NORMAL_CASES)
    model = replace(
        SourceModel.of(row.source_model, row.counts),
        with_llm=fusion,
        without_llm=fusion,
        # the classifier has seen what is far from the cases
        nn_distance_quantiles=(),
        by_text=True,
        language_note="the batch gave the classifier, so the language model was not queried",
    )
    return BatchModel(model.to_json(), FittedDetectors(texts=groups.classifier).dumps(), sha256)
