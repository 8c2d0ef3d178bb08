"""``python -m tests.torture [TEST …]``: the tests of promises in their long form, and docs/promises.md."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from tests.torture.promises import PROMISES

PAGE, FOLDER = Path("docs/promises.md"), Path("tests/torture")
# these measure the times of others, and run beside no other test
ALONE = frozenset({"test_hostile_clients.py", "test_soak.py"})
# those that take longest begin first, so that none of them is left to one process at the end
LONGEST = frozenset(
    {"test_failed_writes.py", "test_no_network.py", "test_killed_commands.py", "test_schema.py", "test_fuzzed.py"}
)
HEAD = """# Promises

Each promise has a test, which `make test` runs in a short form and `make torture` in the long form whose figures are
below. `python -m tests.torture {test}` runs one of them; `make torture ASK=--write` writes this page.
A server is loaded for five minutes there, and for two hours by `python -m tests.torture --seconds 7200 test_soak.py`.

| promise | test | last figures |
|---|---|---|
"""


class FailedFiles(set[str]):
    """A plugin of pytest: names of the files of which a test failed."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.add(Path(report.location[0]).name)


def main(arguments: list[str]) -> int:
    """Run the tests; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tests", nargs="*", help="files of tests/torture; all by default")
    parser.add_argument("--write", action="store_true", help="write docs/promises.md")
    parser.add_argument("--seconds", type=float, help="how long servers are loaded in the tests that have no end")
    options = parser.parse_args(arguments)
    if options.seconds:
        os.environ["TORTURE_SECONDS"] = str(options.seconds)
    names = options.tests or sorted(file.name for file in FOLDER.glob("test_*.py"))
    failed, started = FailedFiles(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "figures.jsonl"
        found.touch()
        os.environ["PRECEDENT_TORTURE"] = str(found)
        beside = sorted((name for name in names if name not in ALONE), key=lambda name: name not in LONGEST)
        in_two_processes = "--numprocesses=2", "--dist=loadfile", "--no-loadscope-reorder"
        with pytest.MonkeyPatch.context() as patch:
            # threads of the models would wait for those of the other process
            patch.setenv("OMP_NUM_THREADS", "1")
            patch.setenv("PRECEDENT_THREADS", "1")
            code = _run(beside, failed, *in_two_processes)
        code = max(code, _run(sorted(ALONE & {*names}), failed))
        figures = {row["promise"]: row["figures"] for row in map(json.loads, found.read_text().splitlines())}
    for promise, values in figures.items():
        print(f"{promise}: {in_words(values)}")
    print(f"{(time.monotonic() - started) / 60:.1f} minutes")
    if options.write and code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        PAGE.write_text(page(figures, failed), encoding="utf-8")
    return code


def _run(names: Sequence[str], failed: FailedFiles, *options: str) -> int:
    """Run the tests of these files; pytest's exit code."""
    tests = [str(FOLDER / name) for name in names]
    common = ("-o", "timeout=14400", "--durations=0", "--durations-min=1")
    return int(pytest.main([*tests, *common, *options], [failed])) if tests else 0


def in_words(figures: dict[str, object]) -> str:
    """Figures as one line."""
    return ", ".join(f"{name.replace('_', ' ')} {_written(value)}" for name, value in figures.items())


def _written(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if isinstance(value, float) else str(value)


def page(figures: dict[str, dict[str, object]], failed: Collection[str] = ()) -> str:
    """The page, with the rows that it has of promises that were not measured now.

    Parameters
    ----------
    figures
        What was measured, by promise.
    failed
        Names of the test files of which a test failed: their promises do not hold, whatever was measured.
    """
    before = dict[str, str]()
    if PAGE.exists():
        for line in PAGE.read_text(encoding="utf-8").splitlines():
            for promise, (words, _) in PROMISES.items():
                if line.startswith(f"| {words} |"):
                    before[promise] = line.split(" | ")[-1].removesuffix(" |")
    rows = []
    for promise, (words, test) in PROMISES.items():
        found = ["**a test failed**"] if test in failed else []
        found += [in_words(figures[promise])] if promise in figures else []
        now = f"{': '.join(found)} ({datetime.date.today()})" if found else None
        rows.append(f"| {words} | `{test}` | {now or before.get(promise, 'not measured')} |")
    return HEAD.replace("{test}", "TEST") + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
