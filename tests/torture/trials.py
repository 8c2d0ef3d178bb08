"""Commands on a data directory of their own, and what must be so when one has failed, was killed, and was run again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.shop import ANOMALOUS, LOG, NEW, NORMAL
from tests.torture.forked import Ended, Forks, Running, forking

READ = ("--format", "log", "--label", "0", "--normal", "-")
MORE = LOG.replace("basket", "till").replace("cache", "shelf")
FORGOTTEN = "sd1007"
Cases = Counter[tuple[str, str]]


@dataclass
class Place:
    """The folder that a command changes, and what is beside it."""

    folder: Path
    forks: Forks
    was_killed: bool = False

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

    def start(self, *arguments: object, **environment: str) -> Running:
        return self.forks.start(*arguments, FAIL_UNDER=str(self.folder), **environment)

    def run(self, *arguments: object, **environment: str) -> Ended:
        return self.start(*arguments, **environment).ended()

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

    def is_opened(self) -> bool:
        """Whether the store has tables."""
        return bool(self.rows("SELECT name FROM sqlite_master WHERE name = 'cases'"))

    def cases(self) -> Cases:
        return Counter(self.rows("SELECT text, label FROM cases"))  # type: ignore[arg-type]

    def verdicts(self) -> list[tuple[str, float, str]]:
        """What a new start makes of some records; it must have nothing to say of the data directory."""
        lines = self.finish("judge", self.beside("probe.log"), "--source", "shop", "--to", "jsonl").splitlines()
        found = [json.loads(line) for line in lines]
        assert not [said for verdict in found for said in verdict["degraded"]]
        return [(verdict["label"], round(verdict["probability"], 6), verdict["explanation"]) for verdict in found]

    def filled(self, command: tuple[object, ...]) -> list[str]:
        """A command with its places."""
        places = {"beside": self.folder.parent, "zip": self.zip, "out": self.out}
        return [str(argument).format(**places) for argument in command]

    def begin(self, trial: Trial) -> None:
        """Make the folder as it is before a trial."""
        commands = json.dumps(trial.before)
        template = self.beside(f"template-{hashlib.sha256(commands.encode()).hexdigest()[:8]}")
        for folder in self.folder.parent.glob(f"{self.folder.name}*"):
            shutil.rmtree(folder)
        if not template.exists():
            self.folder.mkdir()
            for command in trial.before:
                self.finish(*self.filled(command))
            self.folder.rename(template)
        shutil.copytree(template, self.folder, ignore=shutil.ignore_patterns("*.lock"))

    def run_again(self, trial: Trial, said: str) -> None:
        """Run a command that has failed, or was killed, to its end."""
        again = self.run(*self.filled(trial.command), *trial.again(self))
        assert again.code == 0, f"{said}\nagain: {again.err}"
        assert "Traceback" not in again.err
        trial.check(self, again)

    def output(self) -> bytes | None:
        """What a run wrote, without the times it took."""
        return re.sub(rb'"elapsed_ms": ?[\d.e-]+', b"", self.out.read_bytes()) if self.out.exists() else None

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
    if ended.code != -signal.SIGKILL and not place.was_killed:
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


@contextmanager
def opened_place(folder: Path, **environment: str) -> Iterator[Place]:
    """A place within a folder, and the files that its commands read."""
    (folder / "shop.log").write_text(LOG)
    (folder / "more.log").write_text(MORE)
    unlabelled = [line.split(" ", 1)[1] for line in LOG.splitlines()]
    (folder / "judge.log").write_text("".join(f"{line}\n" for line in unlabelled))
    (folder / "probe.log").write_text("".join(f"{text}\n" for text in (NORMAL, ANOMALOUS, NEW, *unlabelled[:8])))
    settings = {"HOME": str(folder / "folder" / "home"), "OFFLINE": "1", "MODEL": "none", "HISTORY_ROWS": "10"}
    variables = {f"PRECEDENT_{name}": value for name, value in settings.items()}
    with forking(**variables, PRECEDENT_CONFIG=os.devnull, **environment) as forks:
        yield Place(folder / "folder", forks)
