"""Options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
import zstandard

from agent.cli.options import exit_if_failed, read_options
from agent.core.errors import UsageError
from agent.data.readers import RowError
from tests.data.reading import read


@pytest.mark.parametrize("stops", [False, True])
def test_all_others_is_said_only_where_all_were_read(stops: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        exit_if_failed([RowError("a.json", 3, "not JSON"), RowError("b.json", 4, "not JSON", stops)])
    last = capsys.readouterr().err.splitlines()[-1]
    assert ("all others were" in last) != stops
    assert ("in 1 file reading stopped there, as listed" in last) == stops


def test_how_much_of_a_damaged_file_is_not_read(tmp_path: Path) -> None:
    packed = bytearray(zstandard.compress("\n".join(hex(pow(3, n, 2**127 - 1)) for n in range(20_000)).encode()))
    packed[200_000:] = b"\xff" * len(packed[200_000:])
    (tmp_path / "a.log").write_bytes(packed)
    (tmp_path / "b.json").write_text(json.dumps([{"a": 1}, {"a": 2}], indent=1)[:-20] + "}")
    errors = [item for name in ("a.log", "b.json") for item in read(tmp_path / name) if isinstance(item, RowError)]
    assert [error.stops for error in errors] == [True, True]
    assert errors[0].reason.endswith(" packed bytes are not read")
    unread = int(errors[0].reason.split("; ")[1].split(" ")[0].replace(",", ""))
    assert len(packed[200_000:]) * 0.9 < unread <= len(packed)


def test_an_option_that_is_given_replaces_what_was_learned() -> None:
    options = read_options(None, None, None, "0", None, "^x")
    assert (options.label, options.multiline) == ("0", "^x")
    assert read_options(None, None, None, "none", None, None).label is None
    with pytest.raises(UsageError, match=r"--multiline '\(': use auto, off or a regular expression"):
        read_options(None, None, None, None, None, "(")
    with pytest.raises(UsageError, match="--multiline on: use auto, off or a regular expression"):
        read_options(None, None, None, None, None, "on")
