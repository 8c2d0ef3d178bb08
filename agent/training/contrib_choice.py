"""Contrib detectors of a source: which were chosen, the fusion of each alone, and judging by one of them alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.core.errors import UsageError
from agent.detectors.base import Detector
from agent.detectors.contrib import catalog
from agent.detectors.contrib.resources import NO_RESOURCES, Resources
from agent.detectors.registry import installed
from agent.pipeline.context import AppContext, BatchModel
from agent.scoring.calibration import Objective, fit
from agent.scoring.fusion import Fusion, SourceModel
from agent.training.leave_one_out import InstalledScores
from retrieval.casebook import SourceSnapshot

NONE = "none"


@dataclass(frozen=True)
class ContribChoice:
    """The contrib detectors of a source by name, None for those chosen before, and what they may use."""

    names: tuple[str, ...] | None = None
    resources: Resources = NO_RESOURCES

    @classmethod
    def of(cls, context: AppContext, row: SourceSnapshot, names: Sequence[str] | None) -> ContribChoice:
        """The choice for a source."""
        return cls(None if names is None else check_names(names), context.detector_resources(row))

    def names_for(self, row: SourceSnapshot) -> tuple[str, ...]:
        """The names chosen now, or before."""
        return tuple((row.source_model or {}).get("contrib", ())) if self.names is None else self.names

    def classes(self, names: Sequence[str]) -> dict[str, type[Detector]]:
        """The detectors beside the built-in ones: of installed packages, and the named ones."""
        return {**installed(), **catalog.detectors(names, self.resources)}


NO_CHOICE = ContribChoice()


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Distinct names of contrib detectors; none for ``none``.

    Raises
    ------
    UsageError
        There is no detector of a name.
    MissingPart
        A detector's extra is not installed.
    """
    if NONE in names:
        if len(names) > 1:
            raise UsageError("--detector none stands alone: it removes the detectors chosen before")
        return ()
    catalog.detectors(names, NO_RESOURCES)
    return tuple({catalog.split_option(name)[0]: name for name in names}.values())


def fusions_alone(extra: InstalledScores, risk: float, objective: Objective) -> dict[str, Fusion]:
    """For each detector beside the built-in ones the fusion of it alone; its own scale with cases of one label."""
    fusions = {}
    for name in [detector.name for detector in extra.detectors]:
        scores = {key: row[name] for key, row in extra.seen_kind.items() if name in row}
        default = Fusion({name: 1.0}, bias=0.0, half_width=1.2, threshold=objective.least_cost)
        labels = [label == "anomalous" for _, label in scores]
        rows = [{name: log_odds} for log_odds in scores.values()]
        fusions[name] = fit(default, rows, labels, [1.0] * len(rows), risk, objective)
    return fusions


def notes_on_detectors(model: SourceModel) -> tuple[str, ...]:
    """What weight each chosen detector got, and why one was not fitted or has no weight."""
    notes = []
    for name, _ in map(catalog.split_option, model.contrib):
        if name not in model.detectors:
            notes.append(f"the detector {name} was not fitted: it takes {catalog.entry(name).takes}")
        elif model.without_llm.weights.get(name):
            notes.append(
                f"the detector {name} has weight {model.without_llm.weights[name]:.2g} beside the other signals"
            )
        else:
            notes.append(
                f"the detector {name} has weight 0: the cases do not show that it adds to the other signals; "
                f"`--detector {name}` of judge and evaluate judges by it alone"
            )
    return tuple(notes)


def judge_alone(context: AppContext, source: str, name: str) -> None:
    """Let the ``context`` judge a source by one of its detectors alone: no precedents, and no language model.

    Raises
    ------
    UsageError
        The source was not fitted with it.
    """
    row = context.source(source)
    model = SourceModel.of(row.source_model, row.counts)
    if name not in model.alone:
        entry = catalog.entry(name)
        if name in model.not_fitted:
            raise UsageError(f"the detector {name} was not fitted to {source}: it takes {entry.takes}")
        chosen = " ".join(f"--detector {each}" for each in (*model.contrib, name))
        raise UsageError(
            f"{source} was not fitted with the detector {name}; it has {', '.join(model.alone) or 'none'}",
            f"`precedent sources refit {source} {chosen}`",
        )
    fusion = model.alone[name]
    only = replace(model, with_llm=fusion, without_llm=fusion, only=name, batch_reference=None, language_note=None)
    sha256 = hashlib.sha256(f"{row.name} {row.revision} {name}".encode()).hexdigest()
    context.batch_models[source] = BatchModel(only.to_json(), None, sha256)
