"""``kill -9`` at random moments of each command that writes: it is as if it had not run, or had; run again, it is done.

The commands run in forks that have imported everything, so that a moment is one of the work. A few moments by default,
many by `make torture`.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.torture.conftest import Figures
from tests.torture.trials import TRIALS, Place, opened_place

pytestmark = pytest.mark.timeout(3_600)
IS_LONG = "PRECEDENT_TORTURE" in os.environ
MOMENTS = 20 if IS_LONG else 1
NAMES = list(TRIALS) if IS_LONG else ["refit", "restore", "forget"]
_FOUND = Counter[str]()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with opened_place(tmp_path_factory.mktemp("killed")) as opened:
        opened.was_killed = True
        yield opened


@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_killed(name: str, place: Place, figures: Figures) -> None:
    trial, chance = TRIALS[name], random.Random(name)
    place.begin(trial)
    started = time.monotonic()
    trial.check(place, place.run(*place.filled(trial.command)))
    seconds = time.monotonic() - started
    output, expected = place.output(), place.verdicts()
    for _ in range(MOMENTS):
        place.begin(trial)
        moment = chance.uniform(0, seconds)
        running = place.start(*place.filled(trial.command))
        time.sleep(moment)
        with suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGKILL)
        killed = running.ended()
        said = f"{name} after {moment:.3f} of {seconds:.3f} s: {killed.code}\n{killed.err}"
        assert killed.code in (-signal.SIGKILL, 0), said
        assert "Traceback" not in killed.err, said
        _FOUND.update(kills=killed.code != 0)
        if (place.home / "precedent.db").exists() and place.is_opened():
            trial.check(place, killed)
        if killed.code != 0:
            place.run_again(trial, said)
        assert place.output() == output, said
        assert place.verdicts() == expected, said
    _FOUND.update(commands=1)
    figures("killed commands", **_FOUND, lost=0, doubled=0, other_verdicts=0)
