"""Folders for drafts: those of living processes stay, those of killed ones go."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from agent.core.scratch import scratch_folder

_HOLDS = """
import sys
from pathlib import Path
from agent.core.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "copy").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def names(parent: Path) -> list[str]:
    return [path.name for path in parent.iterdir()]


def test_what_a_killed_process_left_goes_and_what_a_living_one_uses_stays(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDS, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder:
        held = Path(holder.stdout.readline().decode().strip())
        with scratch_folder(tmp_path) as own, scratch_folder(tmp_path) as other:
            assert len({held, own, other}) == 3
            assert sorted(names(held)) == ["copy", "owner.lock"]
            assert own.is_dir()
        holder.kill()
    assert names(tmp_path) == [held.name]
    with scratch_folder(tmp_path) as own:
        assert names(tmp_path) == [own.name]
    assert names(tmp_path) == []


def test_it_goes_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), scratch_folder(tmp_path):
        raise ValueError("x")
    assert names(tmp_path) == []


def test_what_cannot_be_told_to_be_left_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # its process has made it, and not locked it yet
    (tmp_path / ".precedent-draft-new").mkdir()
    (tmp_path / "precedent-draft-of-a-person").mkdir()
    # not to be removed: a folder in place of the lock's file is no lock, a file is no folder
    (tmp_path / ".precedent-draft-odd" / "owner.lock").mkdir(parents=True)
    (tmp_path / ".precedent-draft-file").touch()
    before = sorted(names(tmp_path))
    with caplog.at_level(logging.WARNING), scratch_folder(tmp_path):
        pass
    assert sorted(names(tmp_path)) == before
    assert not caplog.records
