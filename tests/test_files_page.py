"""docs/files.md: the table that it shows is read as it says."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import Run

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "files.md").read_text(encoding="utf-8")


def test_the_report_is_what_learn_prints_of_the_table(run: Run, tmp_path: Path) -> None:
    table, printed = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "pumps.csv").write_text(table, encoding="utf-8")
    (command,) = re.findall(r"`precedent (learn pumps.csv .*?)`", PAGE)
    done = run(*command.split())
    assert (done.code, done.out) == (0, printed)
    assert "pumps" not in run("sources").out
