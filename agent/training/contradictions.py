"""Cases that contradict each other: templates with cases of both labels, which no comparison of texts tells apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from agent.scoring.fusion import CONTENT_PSEUDO_COUNTS, Fusion, base_rate
from agent.training.leave_one_out import CaseKey
from retrieval.casebook import StoredCase
from retrieval.text.kept_numbers import KeptNumbers, place_in_words

_VALUES_SHOWN, _TEXT_SHOWN = 8, 90
# cases of repeated contents that the usual pseudo-counts are worth; how often labels of equal contents differ at most,
# as a share of those of any two cases
_PRIOR, _MOST_DIFFERING, _TOLERANCE = 20, 0.95, 1e-9


def contradictory_keys(stored: Iterable[CaseKey]) -> set[str]:
    """The keys that have cases of both labels."""
    return {key for key, labels in Counter(key for key, _ in stored).items() if labels > 1}


def pseudo_counts_of_contents(counts: Mapping[CaseKey, int]) -> tuple[float, float]:
    """The pseudo-counts, normal and anomalous, at which one label is worth as much as cases of equal content agree.

    With a beta prior of sum s for the share p of anomalous cases of a content, two labels on it differ with probability
    2 p (1 - p) s / (s + 1), which is estimated from the contents with several cases (method of moments); unless these
    are many, the pseudo-counts stay near `CONTENT_PSEUDO_COUNTS`, and they are never less.

    Parameters
    ----------
    counts
        Cases by content and label.
    """
    totals, labels = Counter[str](), Counter[str]()
    for (content, label), count in counts.items():
        totals[content] += count
        labels[label] += count
    share = labels["anomalous"] / max(1, labels.total())
    by_chance = 2 * share * (1 - share)
    if not by_chance:
        return CONTENT_PSEUDO_COUNTS
    usual = sum(CONTENT_PSEUDO_COUNTS)
    differing, repeated = _PRIOR * by_chance * usual / (usual + 1), float(_PRIOR)
    for (content, _), count in counts.items():
        if (total := totals[content]) > 1:
            repeated += count
            differing += count * (total - count) / (total - 1)
    ratio = min(differing / repeated / by_chance, _MOST_DIFFERING)
    if ratio <= usual / (usual + 1) + _TOLERANCE:
        return CONTENT_PSEUDO_COUNTS
    of_normal, of_anomalous = (ratio / (1 - ratio) * part for part in (1 - share, share))
    return max(CONTENT_PSEUDO_COUNTS[0], of_normal), max(CONTENT_PSEUDO_COUNTS[1], of_anomalous)


def fusion_of_contradictions(stored: Iterable[CaseKey], counts: Mapping[str, int]) -> Fusion | None:
    """The fusion of cases that teach nothing about unknown records, None if they do; ``counts`` of them by label.

    They teach nothing when cases of one label occur only in templates that have cases of the other as well, and these
    are at least half of all.
    """
    stored = list(stored)
    mixed, keys = contradictory_keys(stored), {key for key, _ in stored}
    if 2 * len(mixed) < max(1, len(keys)) or len({label for key, label in stored if key not in mixed}) == 2:
        return None
    return base_rate(counts["anomalous"] / sum(counts.values()))


def notes_on_cases(
    stored: Mapping[CaseKey, StoredCase], kept: KeptNumbers, fusion: Fusion | None, by_fields: bool
) -> tuple[str, ...]:
    """What a person should know: which numbers are not masked, and which cases contradict each other.

    ``fusion``: see `fusion_of_contradictions`.
    """
    notes = [
        f"the number {place_in_words(place)} tells anomalous cases from normal ones of the same template, so it is not "
        f"masked: {_enumerated(sorted(values))}; a record with another number there is not called normal"
        for place, values in kept
    ]
    if mixed := contradictory_keys(stored):
        unit = "contents" if by_fields else "templates"
        total = len({key for key, _ in stored})
        example = next(case.text for (key, _), case in stored.items() if key in mixed)
        notes.append(
            f"labels contradict each other: {len(mixed):,} of {total:,} {unit} have cases of both labels, e.g. "
            f"“{_shortened(example)}”: such records are unsure unless nearly all cases agree"
            + ("" if by_fields else "; if a column tells them apart, learn it as well (--text, --format)")
        )
    if fusion is not None:
        notes.append("these cases teach nothing about others: unknown records get the share of anomalous cases, unsure")
    return tuple(notes)


def note_on_risk(fusion: Fusion, risk: float, stored: Iterable[CaseKey]) -> tuple[str, ...]:
    """That the error among decided records may be larger than promised, if it may."""
    if fusion.risk_kept is not False:
        return ()
    counts = Counter(label for _, label in stored)
    few = min(counts, key=lambda label: counts[label])
    return (
        f"more than {100 * risk:g} % of the decided verdicts on new kinds of records may be wrong: {counts[few]:,} "
        f"{few} cases of different content are too few, or too unlike each other, to exclude it",
    )


def _enumerated(values: list[str]) -> str:
    more = f" and {len(values) - _VALUES_SHOWN} more" if len(values) > _VALUES_SHOWN else ""
    return ", ".join(values[:_VALUES_SHOWN]) + more


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _TEXT_SHOWN else text[: _TEXT_SHOWN - 1] + "…"
