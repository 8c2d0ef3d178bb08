"""The time of a record is that of its time column, or what its line begins with; never a date inside the message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.bulk.runner import BulkOptions, BulkRunner
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from retrieval.text.masking import find_time
from tests.conftest import make_settings
from tests.data.reading import read


@pytest.mark.parametrize(
    ("line", "time"),
    [
        ("2026-01-02 03:04:05.678 UTC [412] start", "2026-01-02 03:04:05.678 UTC"),
        ("[Sun Dec 04 04:47:44 2005] [notice] workerEnv.init() ok", "Dec 04 04:47:44"),
        ("1117838570 2005.06.03 R02-M1-N0 RAS KERNEL INFO", "2005.06.03"),
        ("<34>1 2003-10-11T22:14:15.003Z host su", "2003-10-11T22:14:15.003Z"),
        ("Jun 14 15:16:01 combo sshd[19939]: failure", "Jun 14 15:16:01"),
        ("web01 2026-01-02 03:04:05 start", "2026-01-02 03:04:05"),
        ("[main] INFO 2026-01-02 03:04:05 start", "2026-01-02 03:04:05"),
        ('127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /"', "10/Oct/2000:13:55:36"),
        ('time="2026-01-02T03:04:05Z" level=info msg=x', "2026-01-02T03:04:05Z"),
        ("level=info ts=2026-01-02T03:04:05Z msg=x", "2026-01-02T03:04:05Z"),
        ("backup of 2026-01-02 failed", None),
        ("user 17 paid on 2026-01-02 03:04:05", None),
        ("certificate expires: 2026-01-02", None),
        ("amount is 3 due is 2026-01-02", None),
        ("17\n2026-01-02 03:04:05 a second line", None),
        ("no time at all 17", None),
        ("", None),
    ],
)
def test_a_line_has_the_time_that_it_begins_with(line: str, time: str | None) -> None:
    assert find_time(line) == time


def test_a_reader_takes_the_time_from_a_column_only(tmp_path: Path) -> None:
    note = "backup of 2026-01-02 03:04:05 failed"
    files = {
        "a.log": f"{note}\n",
        "a.csv": f"text,size\n{note},3\n",
        "b.csv": f"Timestamp,text\n2025-12-31 00:00,{note}\n",
        "a.jsonl": json.dumps({"text": note}) + "\n",
        "b.jsonl": json.dumps({"text": note, "@timestamp": "2025-12-31 00:00"}) + "\n",
        "c.jsonl": json.dumps({"events": [note], "time": " 2025-12-31 00:00 "}) + "\n",
    }
    times = {}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        (row,) = read(tmp_path / name)
        assert isinstance(row, ParsedRow)
        times[name] = row.record.time
    assert times == {name: "2025-12-31 00:00" if name.startswith(("b", "c")) else None for name in files}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppContext]:
    home = tmp_path_factory.mktemp("times")
    lines = [f"- backup {number} done" if number % 5 else f"BAD backup {number} lost" for number in range(40)]
    (home / "learn.log").write_text("\n".join(lines))
    context = AppContext(make_settings(home / "home", model="none"))
    learn(
        context, [home / "learn.log"], "backups", ReadOptions(format="log", label="0", normal=("-",)), brief="Backups"
    )
    yield context
    context.close()


@pytest.mark.parametrize(
    ("name", "content", "times"),
    [
        (
            "a.log",
            "2026-03-04 05:06:07 done\nbackup of 2026-01-02 lost\n2026-03-04 05:06:09 backup of 2026-01-02 lost\n",
            ["2026-03-04 05:06:07", None, "2026-03-04 05:06:09"],
        ),
        (
            "a.csv",
            "time,text\n2026-03-04,backup of 2026-01-02 lost\n,backup of 2026-01-02 lost\n",
            ["2026-03-04", None],
        ),
        (
            "a.jsonl",
            '{"time": "2026-03-04", "text": "backup of 2026-01-02 lost"}\n{"text": "backup of 2026-01-02 lost"}\n'
            '{"text": "2026-03-04 05:06:09 backup of 2026-01-02 lost"}\n',
            ["2026-03-04", None, "2026-03-04 05:06:09"],
        ),
    ],
)
def test_a_bulk_summary_names_the_time_of_the_record(
    context: AppContext, tmp_path: Path, name: str, content: str, times: list[str | None]
) -> None:
    def quiet(*_: Any, **__: Any) -> None:
        pass

    (tmp_path / name).write_text(content)
    options = BulkOptions(files=(str(tmp_path / name),), source="backups", detail="compact", to="jsonl")
    summary = BulkRunner(context, ReadOptions(multiline="off"), options, quiet, quiet).run(tmp_path / "out.jsonl")
    assert [span.start.time for span in summary.spans] == times
