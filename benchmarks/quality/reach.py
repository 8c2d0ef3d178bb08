"""What the figures are to reach, by task, and whether they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.quality.figures import Figures

_SLACK = 0.002


@dataclass(frozen=True)
class Reach:
    """``figure`` is the column it is shown in; ``wanted`` says what, ``met`` looks at a task's mean figures."""

    figure: str
    wanted: str
    met: Callable[[Figures], bool]


def _at_least(figure: str, least: float) -> Reach:
    return Reach(figure, f"≥ {least:g}", lambda mean: (mean["fused"][figure] or 0.0) >= least)


def _at_most(figure: str, most: float) -> Reach:
    return Reach(figure, f"≤ {most:g}", lambda mean: mean["fused"][figure] <= most)


def _of_f1_auc(f1: float | None, auc: float | None, accuracy: float | None = None) -> tuple[Reach, ...]:
    wanted = {"accuracy": accuracy, "f1": f1, "roc_auc": auc}
    return tuple(_at_least(figure, least) for figure, least in wanted.items() if least is not None)


def _better(mean: Figures) -> bool:
    """Whether all fused have a better AUC than each signal and baseline, and a better F1 than each baseline."""
    fused = mean["fused"]
    return all(one["fused_roc_auc"] > one["roc_auc"] for one in _ranked(mean).values()) and all(
        (fused["roc_auc"] or 0.0) > (one["roc_auc"] or 0.0) and fused["f1"] > one["f1"]
        for one in mean["baselines"].values()
    )


def _ranked_best(mean: Figures) -> bool:
    """Whether all fused have a better AUC than each baseline."""
    return all(mean["fused"]["roc_auc"] > one["roc_auc"] for one in mean["baselines"].values())


def _ranked(mean: Figures) -> dict[str, Figures]:
    """The signals that were measured on both labels."""
    return {name: one for name, one in mean["signals"].items() if one["roc_auc"] is not None}


_LABELLED = (
    _at_most("ece", 0.05),
    Reach(
        "error_at_80",
        "≤ half",
        lambda mean: mean["fused"]["error_at_80"] <= (1 - mean["fused"]["accuracy"]) / 2,
    ),
)
REACH: Mapping[str, tuple[Reach, ...]] = {
    "bgl-templates": (*_of_f1_auc(0.80, 0.98, 0.96), *_LABELLED),
    "bgl-content": (*_of_f1_auc(None, 0.93), *_LABELLED),
    "bgl-time": (*_of_f1_auc(0.90, None), Reach("roc_auc", "best of all", _better), *_LABELLED),
    "bgl-brief": (*_of_f1_auc(0.65, 0.95), _at_most("ece", 0.05)),
    "genome": (*_of_f1_auc(0.7212, 0.893, 0.8143), *_LABELLED),
    "genome-200": (*_of_f1_auc(0.69, None), *_LABELLED),
    "genome-1000": (*_of_f1_auc(0.722, None), *_LABELLED),
    "nslkdd": (*_of_f1_auc(0.89, 0.972, 0.88), *_LABELLED),
    "nslkdd-normal": (*_of_f1_auc(0.87, 0.955), _at_most("ece", 0.08)),
    "hdfs100k": (*_of_f1_auc(0.75, 0.85), *_LABELLED),
    "hdfs-normal": (*_of_f1_auc(0.95, None), *_LABELLED),
    "hdfs-few": (*_of_f1_auc(0.97, None), *_LABELLED),
    "sms-100": (*_of_f1_auc(0.92, 0.99), *_LABELLED),
    "sms-20": _of_f1_auc(None, None, 0.95),
    "tables-normal": (Reach("roc_auc", "best of all", _ranked_best),),
    "tables-200": (Reach("roc_auc", "best of all", _ranked_best),),
}


def holds(mean: Figures) -> str:
    """Whether all fused rank as well as each signal alone, on the records that have that signal."""
    short = {
        name: one["roc_auc"] - one["fused_roc_auc"]
        for name, one in _ranked(mean).items()
        if one["fused_roc_auc"] < one["roc_auc"] - _SLACK
    }
    return "no: " + ", ".join(f"{name} +{by:.3f}" for name, by in short.items()) if short else "yes"
