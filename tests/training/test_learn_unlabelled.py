"""Files without labels that are learned as normal beside files with labels."""

from __future__ import annotations

from pathlib import Path

from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from tests.shop import LOG


def test_they_do_not_change_how_labelled_files_are_read(context: AppContext, tmp_path: Path) -> None:
    labelled, quiet = tmp_path / "shop.log", tmp_path / "quiet.log"
    labelled.write_text(LOG, encoding="utf-8")
    quiet.write_text("".join(f"cart {word} emptied by its owner\n" for word in "abc"), encoding="utf-8")
    options = ReadOptions(format="log", label="0", normal=("-",))
    learn(context, [labelled], "mixed", options, brief="A shop.", budget=0)
    before = ReadOptions.model_validate(context.source("mixed").reading)
    learn(context, [quiet], "mixed", ReadOptions(format="log"), all_normal=True, budget=0)
    after = ReadOptions.model_validate(context.source("mixed").reading)
    assert context.source("mixed").counts == {"normal": 39, "anomalous": 24}
    assert (after.label, after.normal, after.label_values) == (before.label, before.normal, before.label_values)
    assert after.label == "0"
