"""Gets the models that only tests use: `python -m tests.models`, before the network is closed to the tests."""

from __future__ import annotations

from agent.core.settings import settings
from llm.weights.resolver import resolve

if __name__ == "__main__":
    chosen = settings()
    resolve("qwen2.5-coder-0.5b", cache=chosen.cache, offline=chosen.offline)
    resolve("smollm2-135m", cache=chosen.cache, offline=chosen.offline)
