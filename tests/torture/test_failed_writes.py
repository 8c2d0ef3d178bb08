"""The n-th write of a command fails: nothing acknowledged is lost, it says what happened, and the next start goes on.

What fails is a write, a sync, a cut, a rename or the creation of a file below the command's folders, once by an error
of input or output, once for want of room, and once for want of room from then on. A few n by default, many by
`make torture`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.shop import ANOMALOUS, LOG, NEW, NORMAL
from tests.torture.conftest import Figures
from tests.torture.forked import Ended, Forks, forking

pytestmark = pytest.mark.timeout(3_600)
SOURCE = Path(__file__).with_name("fail_nth_write.c")
IS_LONG = "PRECEDENT_TORTURE" in os.environ
PLACES = 60 if IS_LONG else 1
# how the call fails, and those after it
KINDS = (
    {"FAIL_ERROR": str(errno.EIO)},
    {"FAIL_ERROR": str(errno.ENOSPC)},
    {"FAIL_ERROR": str(errno.ENOSPC), "FAIL_ON": "1"},
)
READ = ("--format", "log", "--label", "0", "--normal", "-")
MORE = LOG.replace("basket", "till").replace("cache", "shelf")
FORGOTTEN = "sd1007"
_FOUND = Counter[str]()
Cases = Counter[tuple[str, str]]


@dataclass
class Place:
    """The folder that a command changes, and what is beside it."""

    folder: Path
    forks: Forks

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def out(self) -> Path:
        return self.folder / "out.jsonl"

    @property
    def zip(self) -> Path:
        return self.folder / "backup.zip"

    def beside(self, name: str) -> Path:
        return self.folder.parent / name

    def run(self, *arguments: object, **environment: str) -> Ended:
        return self.forks.run(*arguments, FAIL_UNDER=str(self.folder), **environment)

    def finish(self, *arguments: object) -> str:
        """Run a command that nothing keeps from its end; its output."""
        ended = self.run(*arguments)
        assert ended.code == 0, ended.err
        assert "Traceback" not in ended.err
        return ended.out

    def rows(self, query: str) -> list[tuple[str, ...]]:
        """Rows of the store as it is on the disk, without changing its files."""
        copy = self.beside("read")
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for end in ("", "-wal"):
            if (file := self.home / f"precedent.db{end}").exists():
                shutil.copy(file, copy)
        with closing(sqlite3.connect(copy / "precedent.db")) as store:
            return store.execute(query).fetchall()

    def cases(self) -> Cases:
        return Counter(self.rows("SELECT text, label FROM cases"))  # type: ignore[arg-type]

    def verdicts(self) -> list[tuple[str, float, str]]:
        """What a new start makes of some records; it must have nothing to say of the data directory."""
        lines = self.finish("judge", self.beside("probe.log"), "--source", "shop", "--to", "jsonl").splitlines()
        found = [json.loads(line) for line in lines]
        assert not [said for verdict in found for said in verdict["degraded"]]
        return [(verdict["label"], round(verdict["probability"], 6), verdict["explanation"]) for verdict in found]

    def grep(self, text: str) -> list[Path]:
        """The files of the data directory that hold a text."""
        return [path for path in self.home.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


Check = Callable[[Place, Ended], None]


@dataclass(frozen=True)
class Trial:
    """A command, the commands before it, and what must be so when it has failed or not, and when it was run again.

    Attributes
    ----------
    before : list of tuple
        Make the folder on which it runs.
    command : tuple
    check : Check
        Raises unless nothing that was acknowledged is lost; called when the command has ended, and in the end.
    again : Callable
        Options with which one goes on.
    """

    before: list[tuple[object, ...]]
    command: tuple[object, ...]
    check: Check
    again: Callable[[Place], tuple[object, ...]] = lambda _: ()


def _learned(place: Place, ended: Ended) -> None:
    if ended.code == 0:
        assert place.cases() == _labelled(LOG), "what was acknowledged is there"


def _corrected(place: Place, ended: Ended) -> None:
    before, after = _labelled(LOG), _labelled(LOG)
    text = LOG.splitlines()[2].removeprefix("- ")
    after[text, "normal"], after[text, "anomalous"] = 0, 1
    # it is done before the source is fitted again, which may fail
    allowed = [+after] if ended.code == 0 else [before, +after]
    assert place.cases() in allowed


def _judged(place: Place, ended: Ended) -> None:
    assert place.cases() == _labelled(LOG)
    if ended.code == 0:
        numbers = [json.loads(line)["line"] for line in place.out.read_text().splitlines()]
        assert numbers == list(range(1, 61))


def _kept(place: Place, ended: Ended) -> None:
    """Each verdict is in the history, or says that it is not."""
    assert place.cases() == _labelled(LOG)
    ids = {row[0] for row in place.rows("SELECT id FROM verdicts")}
    if ended.code == 0:
        lines = [json.loads(line) for line in place.out.read_text().splitlines()]
        assert len(lines) == 60
        for verdict in lines:
            assert verdict["id"] in ids or any("history: not kept" in said for said in verdict["degraded"])


def _same_cases(place: Place, ended: Ended) -> None:
    assert place.cases() == _labelled(LOG)


def _pruned(place: Place, ended: Ended) -> None:
    left = len(place.rows("SELECT id FROM verdicts"))
    assert left == 10 if ended.code == 0 else left in (10, 60)


def _backed_up(place: Place, ended: Ended) -> None:
    assert place.cases() == _labelled(LOG)
    # the file that was there, or the new one, whole
    assert "is whole" in place.finish("restore", place.zip, "--check")
    if ended.code == 0:
        left = [path.name for path in place.folder.iterdir() if path.name.startswith(".")]
        assert not left, "no drafts are left"


def _restored(place: Place, ended: Ended) -> None:
    old, new = _labelled(LOG) | _labelled(MORE), _labelled(LOG)
    assert place.cases() in ([new] if ended.code == 0 else [old, new])


def _erased(place: Place, ended: Ended) -> None:
    before = _labelled(LOG)
    after = Counter({case: count for case, count in before.items() if FORGOTTEN not in case[0]})
    assert after != before
    assert place.cases() in ([after] if ended.code == 0 else [before, after])
    if ended.code == 0:
        if "no fit now" in ended.out:
            place.finish("sources", "refit", "shop")
        fits = place.rows("SELECT source_model FROM sources")
        assert "knows_erased" not in str(fits)
        assert not place.grep(FORGOTTEN) or "still holds the text" in ended.out


def _labelled(log: str) -> Cases:
    lines = (line.split(" ", 1) for line in log.splitlines())
    return Counter((text, "normal" if label == "-" else "anomalous") for label, text in lines)


def _resumed(place: Place) -> tuple[object, ...]:
    return ("--resume",) if place.out.with_name("out.jsonl.resume.json").exists() else ()


LEARN = ("learn", "{beside}/shop.log", "--source", "shop", *READ, "--brief", "a shop")
JUDGE = ("judge", "{beside}/shop.log", "--source", "shop", *READ)
BACKUP = ("backup", "{zip}")
TRIALS = {
    "learn": Trial([], LEARN, _learned),
    "judge a file": Trial([LEARN], (*JUDGE, "--detail", "compact", "--output", "{out}"), _judged, _resumed),
    "judge": Trial([LEARN], (*JUDGE, "--detail", "full", "--output", "{out}"), _kept, _resumed),
    "correct": Trial([LEARN, (*JUDGE, "--to", "jsonl")], ("correct", "{beside}/shop.log:3", "anomalous"), _corrected),
    "rebuild": Trial([LEARN], ("sources", "rebuild", "shop"), _same_cases),
    "refit": Trial([LEARN], ("sources", "refit", "shop"), _same_cases),
    "prune": Trial([LEARN, (*JUDGE, "--to", "jsonl")], ("sources", "prune"), _pruned),
    "backup": Trial([LEARN, BACKUP], (*BACKUP, "--force"), _backed_up),
    "restore": Trial(
        [LEARN, BACKUP, ("learn", "{beside}/more.log", *LEARN[2:])], ("restore", "{zip}", "--force"), _restored
    ),
    "forget": Trial([LEARN], ("sources", "forget", "shop", "--matching", FORGOTTEN, "--yes"), _erased),
    "watch": Trial(
        [LEARN], ("watch", "{beside}/judge.log", "--source", "shop", "--once", "--output", "{out}"), _judged
    ),
}
# of each kind of change one, where the time is short
NAMES = list(TRIALS) if IS_LONG else ["learn", "judge a file", "correct", "backup"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("calls are made to fail by a library that a C compiler makes, on Linux")
    made = tmp_path_factory.mktemp("library") / "fail.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, SOURCE, "-ldl"], check=True)
    return made


@pytest.fixture(scope="module")
def place(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("failing") / "folder"
    (folder.parent / "shop.log").write_text(LOG)
    (folder.parent / "more.log").write_text(MORE)
    unlabelled = [line.split(" ", 1)[1] for line in LOG.splitlines()]
    (folder.parent / "judge.log").write_text("".join(f"{line}\n" for line in unlabelled))
    (folder.parent / "probe.log").write_text("".join(f"{text}\n" for text in (NORMAL, ANOMALOUS, NEW, *unlabelled[:8])))
    environment = {
        "LD_PRELOAD": str(library), "PRECEDENT_HOME": str(folder / "home"), "PRECEDENT_OFFLINE": "1",
        "PRECEDENT_MODEL": "none", "PRECEDENT_HISTORY_ROWS": "10",
    }  # fmt: skip
    with forking(**environment) as forks:
        yield Place(folder, forks)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_fails(name: str, place: Place, figures: Figures) -> None:
    trial = TRIALS[name]
    commands = json.dumps(trial.before)
    template = place.beside(f"template-{hashlib.sha256(commands.encode()).hexdigest()[:8]}")

    def filled(arguments: tuple[object, ...]) -> list[str]:
        places = {"beside": place.folder.parent, "zip": place.zip, "out": place.out}
        return [str(argument).format(**places) for argument in arguments]

    def begin() -> None:
        for folder in place.folder.parent.glob(f"{place.folder.name}*"):
            shutil.rmtree(folder)
        shutil.copytree(template, place.folder, ignore=shutil.ignore_patterns("*.lock"))

    if not template.exists():
        shutil.rmtree(place.folder, ignore_errors=True)
        place.folder.mkdir()
        for command in trial.before:
            place.finish(*filled(command))
        shutil.copytree(place.folder, template)
    begin()
    whole = place.run(*filled(trial.command))
    assert whole.code == 0, whole.err
    trial.check(place, whole)
    output = place.out.read_bytes() if place.out.exists() else None
    expected = place.verdicts()
    places = min(PLACES, whole.calls)
    refused = 0
    for index in range(places):
        begin()
        n = 1 + (2 * index + 1) * whole.calls // (2 * places) if places < whole.calls else 1 + index
        kind = KINDS[index % len(KINDS)]
        failed = place.run(*filled(trial.command), FAIL_AT=str(n), **kind)
        said = f"{name}, call {n} of {whole.calls}, {kind}: {failed.code}\n{failed.err}"
        assert failed.code in (0, 2, 3), said
        assert "Traceback" not in failed.err, said
        assert failed.code == 0 or failed.err.splitlines()[-1].startswith("error: "), said
        trial.check(place, failed)
        refused += failed.code != 0
        if failed.code != 0:
            again = place.run(*filled(trial.command), *trial.again(place))
            assert again.code == 0, f"{said}\nagain: {again.err}"
            assert "Traceback" not in again.err
            trial.check(place, again)
            if output is not None and "full" not in trial.command:
                assert place.out.read_bytes() == output, said
        assert place.verdicts() == expected, said
    _FOUND.update(commands=1, writes=places, of=whole.calls, refused=refused)
    figures("failed", **_FOUND, lost=0, starts_refused=0)
