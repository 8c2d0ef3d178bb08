"""What the schema of the HTTP interface lists is what there is."""

from __future__ import annotations

from typing import get_args

from agent.api.schemas import RedactedKind
from retrieval.text.redaction import KINDS


def test_the_kinds_that_can_be_redacted_are_those_of_the_rules() -> None:
    assert sorted(get_args(RedactedKind)) == sorted(KINDS)
