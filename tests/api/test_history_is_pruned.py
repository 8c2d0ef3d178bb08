"""A server keeps its history as large as the settings say, and what it answers from its caches is in the history."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from agent.api import state
from agent.core.settings import Settings
from server import create_app
from tests.served import HOST, copy_of, eventually, learned

__all__ = ["copy_of", "learned"]


def test_verdicts_beyond_the_limit_are_removed_and_kept_again_when_given_again(
    copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "PRUNE_SECONDS", 0.05)
    lines = [json.dumps({"text": f"warehouse robot {i} reports its battery", "source": "shop"}) for i in range(9)]
    app = create_app(copy_of(model="none", history_rows=0))
    context = app.state.server.context
    pruned_settings, kept_settings = context.settings, context.settings.model_copy(update={"history_rows": 100})
    with TestClient(app, base_url=HOST) as client:

        def judge(chosen: list[str]) -> set[str]:
            content = {"content-type": "application/x-ndjson"}
            answer = client.post("/v1/verdicts", content="\n".join(chosen), headers=content)
            return {json.loads(line)["id"] for line in answer.text.splitlines()}

        def kept() -> set[str]:
            return {body["id"] for body, *_ in context.history.find(source="shop", limit=99)}

        assert len(judge(lines[:5])) == 5
        assert eventually(lambda: not kept())
        # the first verdict of the template is pruned, and these are stored as like it; then lines that are cached
        for again in (lines[5:], lines[:5]):
            monkeypatch.setattr(context, "settings", kept_settings)
            given = judge(again)
            assert kept() >= given
            monkeypatch.setattr(context, "settings", pruned_settings)
            assert eventually(lambda: not kept())
