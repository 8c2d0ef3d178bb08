"""What Precedent promises, and the tests that prove it."""

from __future__ import annotations

from typing import NamedTuple


class Promise(NamedTuple):
    """A promise in words, and the test file of this folder that proves it."""

    words: str
    test: str


PROMISES = {
    "killed": Promise(
        "Whatever was acknowledged is there after `kill -9` at any moment, once: cases, corrections, and the lines of "
        "a resumed run, byte for byte.",
        "test_killed.py",
    ),
    "killed commands": Promise(
        "The same of each command that writes, killed while it works: it is as if it had not run, or had; run again, "
        "it is done, with the same verdicts and outputs.",
        "test_killed_commands.py",
    ),
    "killed workers": Promise(
        "Whichever workers of a Ray cluster are killed, a run has the lines of a local one, byte for byte.",
        "test_killed_extras.py",
    ),
    "killed runs on Ray": Promise(
        "A run on a Ray cluster that was killed goes on with `--resume`, to the same bytes.", "test_killed_extras.py"
    ),
    "killed trainings": Promise(
        "When `precedent tune classifier` is killed, the source judges as before, or as tuned; `--resume` goes on, to "
        "the same verdicts.",
        "test_killed_extras.py",
    ),
    "failed": Promise(
        "When a write to the disk fails, the command says so or goes on; nothing that was acknowledged is lost, and "
        "the next start is not refused: `learn`, `judge`, `correct`, `watch`, rebuild, refit, prune, forget, backup, "
        "restore, a server.",
        "test_failed_writes.py",
    ),
    "damaged": Promise(
        "Damage to the index is found and mended; damage to a closed store is refused, with the file and the way back.",
        "test_damaged.py",
    ),
    "damaged files": Promise(
        "Damage to a model, the configuration, a stopped run or a backup is found: the file is named, with the way "
        "back, and no verdict is another one.",
        "test_damaged_files.py",
    ),
    "casebook": Promise(
        "Whatever is learned, corrected, removed, reopened and rebuilt, in whatever order, the casebook holds what a "
        "dictionary would, and finds it.",
        "test_casebook_states.py",
    ),
    "fuzzed": Promise(
        "No file, text, request or backup crashes or hangs what reads it, and no line of a log is lost (`make fuzz`: "
        "guided by coverage).",
        "test_fuzzed.py",
    ),
    "network": Promise(
        "Nothing connects beyond this machine: every command, and a server, in a network namespace that has the "
        "loopback alone, under strace.",
        "test_no_network.py",
    ),
    "ollama": Promise(
        "An Ollama that hangs, resets, is slow or answers garbage costs a verdict its signal, within the time limit, "
        "and `degraded` says so.",
        "test_hostile_ollama.py",
    ),
    "injected": Promise(
        "What a record says to the judge does not make it normal, and honest lines that talk about judging raise no "
        "alarm.",
        "test_injected.py",
    ),
    "soak": Promise(
        "A server that is given new records all the time, some of new templates, stays as large and as fast as it was, "
        "and its history as long as set.",
        "test_soak.py",
    ),
    **{
        f"injected_{model}": Promise(
            f"Where {model} decides alone, without a casebook, an instruction in a record makes nothing normal that is "
            "not normal without it.",
            "test_injected.py",
        )
        for model in ("smollm2-135m", "qwen2.5-coder-0.5b")
    },
    "poisoned": Promise(
        "A client whose API key has the role `correct` makes no known anomaly normal, however many wrong corrections "
        "it sends: those that oppose several cases of others wait for a second person.",
        "test_poisoned.py",
    ),
    "corrected": Promise(
        "Corrections of new kinds and of single mistakes have effect at once, and records like them follow.",
        "test_poisoned.py",
    ),
    "schema": Promise(
        "Every request that the OpenAPI schema allows is accepted, every other is refused, and each answer is one that "
        "the schema describes: no server error, on any route, with keys and without.",
        "test_schema.py",
    ),
    "clients": Promise(
        "Clients that are slow, that stall or disappear, that send bombs or bodies without end are cut off in time; "
        "the server's memory stays bounded, and others are served.",
        "test_hostile_clients.py",
    ),
}
