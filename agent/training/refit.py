"""Fitting a source again, and going back to the fit before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.core.errors import Conflict
from agent.core.logs import timed_event
from agent.core.progress import Progress
from agent.detectors.language import LanguageDetector
from agent.detectors.lora import SourceAdapter
from agent.pipeline.context import AppContext
from agent.scoring.fusion import SourceModel
from agent.training.contrib_choice import ContribChoice
from agent.training.fit import fit_source
from agent.training.language_trial import TunedLanguage
from agent.training.telling_numbers import keep_telling_numbers
from llm.errors import ModelFailure
from retrieval.casebook import SourceSnapshot
from retrieval.encoding.representation import Representation
from retrieval.store.fits import Fit, Fits


def changes_since_fit(snapshot: SourceSnapshot) -> int:
    """Changes of the cases since the source was fitted, a person went back to its fit, or a newer fit was worse."""
    model = snapshot.source_model or {}
    return snapshot.version - max(int(model.get(name, 0)) for name in ("fitted_on", "restored_on", "challenged_on"))


def is_outdated(snapshot: SourceSnapshot) -> bool:
    """Whether the source was not fitted since its cases last changed."""
    return snapshot.source_model is None or changes_since_fit(snapshot) != 0


def refit_while_due(
    context: AppContext,
    source: str,
    due: Callable[[SourceSnapshot], bool] = is_outdated,
    progress: Progress | None = None,
    fit: Callable[..., object] | None = None,
) -> bool:
    """Fit the source again while that is ``due``, by ``fit`` if it is not `refit`.

    If a fit of the source is running, that one checks again when it ends, and this call returns at once.

    Returns
    -------
    bool
        Whether this call fitted the source.
    """
    fitted, turn = False, context.fitting(source)
    while due(context.source(source)) and turn.acquire(blocking=False):
        try:
            (fit or refit)(context, source, progress=progress)
        finally:
            turn.release()
        fitted = True
    return fitted


def refit(
    context: AppContext,
    source: str,
    *,
    budget: int | None = None,
    objective: str | None = None,
    detectors: Sequence[str] | None = None,
    tuned: TunedLanguage | None = None,
    progress: Progress | None = None,
) -> SourceModel:
    """Fit the source from its cases, one fit at a time; without a language model, the other detectors only.

    The fit that it had is kept, see `rollback`.

    Parameters
    ----------
    budget, objective, detectors, progress
        See `agent.training.learn.learn`.
    tuned : TunedLanguage, optional
        The adapter of the language model, `NOT_TUNED` for none from now on; by default the source keeps its own.

    Returns
    -------
    SourceModel
        The new fit.
    """
    settings, fits = context.settings, Fits(context.casebook.engine)
    with context.fitting(source), timed_event("refit", source=source):
        row = context.source(source)
        detector, tuned = _language(context, row, tuned or TunedLanguage(SourceAdapter.of(row.source_model)))
        before = fits.current(source)
        keep_telling_numbers(context.casebook, source)
        # corrections are stored without their embeddings
        context.casebook.sync(source, progress)
        model = fit_source(
            context.casebook,
            source,
            detector,
            precedents=settings.precedents,
            budget=settings.language_budget if budget is None else budget,
            risk=settings.risk,
            objective=objective,
            tuned=tuned,
            choice=ContribChoice.of(context, context.source(source), detectors),
            progress=progress,
        )
        now = fits.current(source)
        # the same fit again leaves the way back to a different one
        if before is not None and now is not None and not before.is_same(now):
            fits.keep_earlier(source, before)
    return model


def _language(
    context: AppContext, row: SourceSnapshot, tuned: TunedLanguage
) -> tuple[LanguageDetector | None, TunedLanguage]:
    """The language model with the adapter; None if it is unavailable."""
    try:
        if tuned.adapter is None:
            return context.plain_detector(), tuned
        return context.adapted_detector(row, tuned.adapter), tuned
    except ModelFailure as error:
        # the fit has the adapter still, so that it is used again when its file is back
        return None, replace(tuned, unavailable=str(error)) if tuned.adapter else tuned


def rollback(context: AppContext, source: str, progress: Progress | None = None) -> SourceSnapshot:
    """Judge with the fit before the present one again, which in turn becomes the one to go back to.

    The cases and the brief stay as they are. The source is fitted anew when its cases have changed enough since.

    Returns
    -------
    SourceSnapshot
        The source after it.

    Raises
    ------
    UnknownSource
        There is no source of that name.
    Conflict
        There is no earlier fit, or it was made with vectors that the source has no more.
    """
    row, fits = context.source(source), Fits(context.casebook.engine)
    with context.fitting(source), timed_event("rollback", source=source):
        earlier = fits.earlier(source)
        if earlier is None:
            raise Conflict(f"{source} has no earlier fit: it was fitted once, or never")
        row = context.source(source)
        if not _is_usable(earlier, row):
            raise Conflict(
                f"the earlier fit of {source} was made with vectors that were computed anew since: fit the source again"
            )
        if earlier.representation and row.representation:
            # which numbers masking keeps is part of a fit
            context.casebook.keep_numbers(source, Representation.from_json(earlier.representation).kept)
            context.casebook.sync(source, progress)
        version = context.source(source).version
        fits.go_back(source, replace(earlier, source_model={**earlier.source_model, "restored_on": version}))
    return context.source(source)


def earlier_fit(context: AppContext, source: str) -> Fit | None:
    """The fit that `rollback` goes back to, if it can."""
    earlier = Fits(context.casebook.engine).earlier(source)
    return earlier if earlier is not None and _is_usable(earlier, context.source(source)) else None


def _is_usable(earlier: Fit, row: SourceSnapshot) -> bool:
    """Whether the source's vectors are still those of the earlier fit."""
    if earlier.embedder != row.embedder:
        return False
    if earlier.representation is None or row.representation is None:
        return earlier.representation is None and row.representation is None
    then = Representation.from_json(earlier.representation)
    return then.keeping(row.representation.kept).to_json() == row.representation.to_json()
