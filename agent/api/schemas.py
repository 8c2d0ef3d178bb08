"""Bodies of requests and responses other than records and verdicts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool

from agent.core.json_schemas import SourceName
from agent.core.records import Case, Label, clean_text
from agent.training.learn import redaction_of
from agent.training.proposal import Action, Proposals
from retrieval.casebook import SourceSnapshot

RedactedKind = Literal["secret", "card", "iban", "email", "phone", "ip"]
HELD = "It opposes what others labelled, and waits for a second person: see `held`"
"""What 202 says of a correction."""


class NewCases(BaseModel):
    """Labelled records for one source, which is created if it does not exist."""

    model_config = ConfigDict(extra="forbid")

    source: SourceName
    cases: list[Case] = Field(min_length=1)


class Added(BaseModel):
    """How many of the cases were new, and the version of the casebook that has them."""

    source: str
    received: int
    added: int
    casebook_version: int


class Brief(BaseModel):
    """What a source is, in plain words."""

    model_config = ConfigDict(extra="forbid")

    brief: Annotated[str, Field(max_length=4_000), AfterValidator(clean_text)]


class SourceSettings(Brief):
    """The brief of a source, and the kinds of values that are redacted in its records; see docs/redaction.md.

    ``redact``: without it a source keeps what it redacts; an empty list is for nothing. It cannot be changed once the
    source has cases.
    """

    redact: list[RedactedKind] | None = None


class Pattern(BaseModel):
    """Which records are to be forgotten: those with this text in them, whatever its case, or a regular expression."""

    model_config = ConfigDict(extra="forbid")

    matching: Annotated[str, Field(min_length=1, max_length=1_000)]
    regex: StrictBool = False
    dry_run: StrictBool = False


class Feedback(BaseModel):
    """The right label of a judged record."""

    model_config = ConfigDict(extra="forbid")

    label: Label


class Unanswered(BaseModel):
    """Why there is no verdict, in its place."""

    error: str


class ValidationDetail(BaseModel):
    """One thing that is wrong with a body, and where."""

    loc: list[str]
    msg: str
    type: str


class Problem(BaseModel):
    """The body of every error."""

    detail: str | list[ValidationDetail]


class ProposalView(BaseModel):
    """What is proposed for a source, as of the last minute: see ``GET /v1/sources/{name}/proposal``."""

    action: Action
    reasons: list[str]

    @classmethod
    def of(cls, found: Proposals | None) -> ProposalView | None:
        """The view of the first proposal."""
        return cls(action=found.action, reasons=found.proposals[0].reasons) if found else None


class SourceView(BaseModel):
    """A source with its numbers of cases by label, and the kinds of values that are redacted in its records.

    ``proposal`` is only in the view of one source.
    """

    name: str
    brief: str
    brief_by: str
    casebook_version: int
    cases: dict[str, int]
    redacted: list[str] = Field([], exclude_if=lambda kinds: not kinds)
    proposal: ProposalView | None = None

    @classmethod
    def of(cls, row: SourceSnapshot, found: Proposals | None = None) -> SourceView:
        """The view of a stored source, and of what is proposed for it."""
        return cls(
            name=row.name,
            brief=row.brief,
            brief_by=row.brief_by,
            casebook_version=row.version,
            cases=row.counts,
            redacted=list(redaction.kinds) if (redaction := redaction_of(row, None)) else [],
            proposal=ProposalView.of(found),
        )
