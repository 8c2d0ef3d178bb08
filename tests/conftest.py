"""What all tests share: a data directory of their own, no network, the real models from the user's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from agent.chain import build
from agent.parts import Parts
from agent.settings import Settings

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
POSTGRES = Path(__file__).resolve().parents[1] / "examples" / "postgres"

# the first example pays for imports, on a noisy machine any may be slow; the same examples at every run
hypothesis.settings.register_profile("precedent", deadline=None, derandomize=True)
hypothesis.settings.load_profile("precedent")
# Ollama on the developer's machine must not change what the tests see
os.environ["OLLAMA_HOST"] = "127.0.0.1:9"


def make_settings(home: Path, **values: object) -> Settings:
    """Settings with a data directory under the test's folder; never fetching anything."""
    return Settings.model_validate({"home": home, "offline": True, "model": "embedded:qwen2.5-coder-0.5b", **values})


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """Real parts on an empty data directory."""
    made = Parts(make_settings(tmp_path / "home"))
    yield made
    made.close()


@pytest.fixture
def chain(parts: Parts):  # type: ignore[no-untyped-def]
    return build(parts)


@pytest.fixture(scope="session")
def data() -> Path:
    """The shared data sets; a test that needs them skips, saying so, where they are absent."""
    if not DATA.is_dir():
        pytest.skip(f"the public data sets are not at {DATA}")
    return DATA
