"""Bodies of requests and responses that are not records or verdicts themselves."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from agent.core.records import Case, Label
from agent.core.requests import storable
from retrieval.casebook import SourceSnapshot


class NewCases(BaseModel):
    """Labelled records for one source, which is made when it is not there."""

    model_config = ConfigDict(extra="forbid")

    source: str
    cases: list[Case] = Field(min_length=1)


class Added(BaseModel):
    source: str
    received: int
    added: int
    casebook_version: int


class Brief(BaseModel):
    model_config = ConfigDict(extra="forbid")

    brief: Annotated[str, Field(max_length=4_000), AfterValidator(storable)]


class Feedback(BaseModel):
    model_config = ConfigDict(extra="forbid")

    label: Label


class Unanswered(BaseModel):
    """In the place of a verdict: why there is none."""

    error: str


class Complaint(BaseModel):
    loc: list[str]
    msg: str
    type: str


class Problem(BaseModel):
    """What every answer but a good one says."""

    detail: str | list[Complaint]


class SourceView(BaseModel):
    name: str
    brief: str
    brief_by: str
    casebook_version: int
    cases: dict[str, int]

    @classmethod
    def of(cls, row: SourceSnapshot) -> SourceView:
        return cls(
            name=row.name, brief=row.brief, brief_by=row.brief_by, casebook_version=row.version, cases=row.counts
        )
