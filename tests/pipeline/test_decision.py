"""A text that is like no case is never normal, also where a few templates are all far from each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.learn import learn
from tests.conftest import make_settings

NORMAL = ("user u{} logged in from 10.0.0.{}", "backup of volume {} done in {} s", "invoice {} was mailed to {}")
ANOMALOUS = ("FATAL: block {} of disk {} could not be written", "ERROR: checksum failure in page {} of table {}")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppContext]:
    """A log of five templates."""
    home = tmp_path_factory.mktemp("few")
    lines = [f"- {text.format(i, i)}" for i in range(20) for text in NORMAL]
    lines += [f"BAD {text.format(i, i)}" for i in range(10) for text in ANOMALOUS]
    (home / "learn.log").write_text("\n".join(lines), encoding="utf-8")
    context = AppContext(make_settings(home / "home", model="none"))
    learn(context, [home / "learn.log"], "few", ReadOptions(format="log", label="0", normal=("-",)), brief="A server.")
    yield context
    context.close()


@pytest.mark.parametrize("text", ["the server room is under water", "segfault", "1, 2", "Killed process 1234"])
def test_a_text_unlike_a_few_templates_is_never_normal(context: AppContext, text: str) -> None:
    assert build(context).invoke({"text": text, "source": "few"}).label != "normal"


def test_a_known_template_of_a_few_is_normal(context: AppContext) -> None:
    assert build(context).invoke({"text": "user u77 logged in from 10.0.0.99", "source": "few"}).label == "normal"
