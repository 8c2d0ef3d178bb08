"""A source's brief when nobody wrote one: drafted by the language model from cases, to be edited by a person."""

from __future__ import annotations

import re
from collections.abc import Sequence

from langchain_core.messages import HumanMessage, SystemMessage

from agent.core.prompts import render
from llm.base import ChatBackend
from retrieval.casebook import Casebook, StoredCase
from retrieval.encoding.representation import Representation

_SHOWN = 6
_CHARS = 160
_TOKENS = 140
_LONGEST = 900


def draft_brief(model: ChatBackend, casebook: Casebook, name: str) -> str:
    """One paragraph about the source ``name``, from up to six different cases of each label.

    Raises:
        ModelFailure, EngineBusy: the model could not be heard.
    """
    row = casebook.source(name)
    space = (row.space if row else None) or Representation()
    templates = [case for case, _ in casebook.by_template(name).values()]
    shown = {label: _different(templates, label, space) for label in ("normal", "anomalous")}
    asked = render("brief_cases", source=name, **shown)
    told = "".join(model.stream([SystemMessage(render("brief_system")), HumanMessage(asked)], _TOKENS))
    sentences = re.findall(r"[^.!?]+[.!?]", " ".join(told.split()))
    return "".join(sentences).strip()[:_LONGEST] or " ".join(told.split())[:_LONGEST]


def _different(cases: Sequence[StoredCase], label: str, space: Representation) -> list[str]:
    """Evenly spread over the templates of a label, so that one loud template does not speak for all."""
    mine = [case for case in cases if case.label == label]
    step = max(1, len(mine) // _SHOWN)
    return [space.masked(case)[:_CHARS] for case in mine[::step][:_SHOWN]]
