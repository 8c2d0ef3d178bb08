"""A checkpoint comes back as it was written, and one that is damaged is not taken for another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.bulk.output import Output
from agent.bulk.summary import Summary
from agent.core.errors import UsageError


def interrupted(path: Path) -> Path:
    """Write a line and a checkpoint; the file of the latter."""
    output = Output(path, "run", templates=False, resume=False)
    output.write(b'{"line": 1}\n')
    output.checkpoint(file=2, at=(12, 3), summary=Summary(source="größe", blank=7))
    output.close(finished=False)
    return path.with_name(f"{path.name}.resume.json")


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    interrupted(tmp_path / "out.jsonl")
    resumed = Output(tmp_path / "out.jsonl", "run", templates=False, resume=True)
    assert (resumed.state["file"], resumed.state["at"]) == (2, [12, 3])
    assert Summary.model_validate(resumed.state["summary"]) == Summary(source="größe", blank=7)
    resumed.close(finished=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.replace(b'"blank":7', b'"blank":8'),
        lambda content: content[: content.index(b',"crc32"')] + b"}",
        lambda content: content.replace(b'"crc32":', b'"crc32":1'),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    resume = interrupted(tmp_path / "out.jsonl")
    resume.write_bytes(damage(resume.read_bytes()))
    with pytest.raises(UsageError, match="is damaged"):
        Output(tmp_path / "out.jsonl", "run", templates=False, resume=True)
