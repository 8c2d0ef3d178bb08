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
    "casebook": Promise(
        "Whatever is learned, corrected, removed, reopened and rebuilt, in whatever order, the casebook holds what a "
        "dictionary would, and finds it.",
        "test_casebook_states.py",
    ),
    "fuzzed": Promise("No input makes a reader crash, hang or lose a line without saying so.", "test_fuzzed.py"),
    "network": Promise(
        "Nothing connects beyond this machine: every command, and a server, in a network namespace that has the "
        "loopback alone, under strace.",
        "test_no_network.py",
    ),
    "clients": Promise(
        "Slow, half-open, oversized and deeply nested requests neither fill the memory nor keep others waiting.",
        "test_hostile_clients.py",
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
}
