"""Routes about sources and their cases."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Query

from agent.api.bodies import JsonRoute
from agent.api.roles import needs
from agent.api.schemas import Added, NewCases, Pattern, SourceSettings, SourceView
from agent.api.state import State
from agent.core.access import Role, signed
from agent.core.json_schemas import IsoTime, SourceName
from agent.core.requests import check_record_size
from agent.data.read_options import ReadOptions
from agent.data.record_reading import as_read
from agent.training.active_learning import Candidate, select_for_review
from agent.training.challenge import Challenge, challenge
from agent.training.drift import WINDOW
from agent.training.forget import Forgotten, forget
from agent.training.learn import as_case, check_name, redaction_of
from agent.training.proposal import Proposals, propose
from agent.training.refit import refit, refit_while_due, rollback

router = APIRouter(prefix="/v1", route_class=JsonRoute)


@router.post("/cases", tags=["cases"], status_code=201)
@needs(Role.ADMIN)
def post_cases(new: NewCases, background: BackgroundTasks, state: State) -> Added:
    """Add labelled records. The same record again adds nothing; the source is refitted in the background."""
    casebook, limit = state.context.casebook, state.settings.max_record_chars
    known = casebook.source(check_name(new.source))
    options = ReadOptions.model_validate((known.reading if known else None) or {})
    records = [as_read(check_record_size(case.record, limit), options) for case in new.cases]
    cases = [as_case(record, case.label) for record, case in zip(records, new.cases, strict=True)]
    added = casebook.add(new.source, cases, given_by=signed("API"))
    casebook.sync(new.source)
    if added:
        background.add_task(refit_while_due, state.context, new.source)
    version = state.context.source(new.source).version
    return Added(source=new.source, received=len(cases), added=added, casebook_version=version)


@router.get("/sources", tags=["sources"])
@needs(Role.READ)
def get_sources(state: State) -> list[SourceView]:
    """All sources."""
    casebook = state.context.casebook
    return [SourceView.of(row) for name in casebook.names() if (row := casebook.source(name))]


@router.get("/sources/{name}", tags=["sources"])
@needs(Role.READ)
def get_source(name: SourceName, state: State) -> SourceView:
    """One source, and what was proposed for it in the last minute."""
    return SourceView.of(state.context.source(name), state.metrics.proposal(name))


@router.get("/sources/{name}/proposal", tags=["sources"])
@needs(Role.CORRECT)
def get_proposal(
    name: SourceName,
    state: State,
    last: Annotated[int, Query(ge=1, le=100_000)] = WINDOW,
    since: IsoTime | None = None,
) -> Proposals:
    """What to do about a source: refit it, label some records, tune a model, or nothing; with the evidence.

    ``last``: how many of the newest verdicts are recent; ``since``: only those given since then are.
    """
    return propose(state.context, name, last, since)


@router.post("/sources/{name}/refit", tags=["sources"])
@needs(Role.ADMIN)
def post_refit(name: SourceName, state: State) -> Challenge:
    """Fit a source again. The new fit replaces the present one unless it is worse on the newest cases."""
    return challenge(state.context, name)


@router.get("/sources/{name}/review", tags=["sources"])
@needs(Role.READ)
def get_review(name: SourceName, state: State, n: Annotated[int, Query(ge=1, le=200)] = 20) -> list[Candidate]:
    """The verdicts whose correction would improve the source's model most, the best first."""
    return select_for_review(state.context, name, n)


@router.put("/sources/{name}", tags=["sources"])
@needs(Role.ADMIN)
def put_source(name: SourceName, chosen: SourceSettings, background: BackgroundTasks, state: State) -> SourceView:
    """Create a source, or set its brief, and what is redacted in its records."""
    casebook = state.context.casebook
    known = casebook.source(check_name(name))
    values: dict[str, Any] = {"brief": chosen.brief.strip(), "brief_by": "person"}
    if chosen.redact is not None:
        options = ReadOptions.model_validate((known.reading if known else None) or {})
        values["reading"] = options.model_copy(update={"redact": redaction_of(known, chosen.redact)}).to_stored()
    casebook.create(name)
    casebook.set(name, **values)
    view = get_source(name, state)
    if any(view.cases.values()):
        background.add_task(refit, state.context, name)
    return view


@router.post("/sources/{name}/forget", tags=["sources"])
@needs(Role.ADMIN)
def post_forget(name: SourceName, pattern: Pattern, state: State) -> Forgotten:
    """Erase what the source holds on some records; with `dry_run`, count it only. It cannot be undone."""
    return forget(state.context, name, pattern.matching, by_regex=pattern.regex, dry_run=pattern.dry_run)


@router.post("/sources/{name}/rollback", tags=["sources"])
@needs(Role.ADMIN)
def post_rollback(name: SourceName, state: State) -> SourceView:
    """Judge with the fit before the present one again; the cases and the brief stay. Once more undoes it."""
    return SourceView.of(rollback(state.context, name))
