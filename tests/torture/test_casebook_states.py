"""The casebook against a dictionary: any order of changes by two handles, reopened, rebuilt, its index lost."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from agent.core.records import Label, Record
from agent.training.learn import as_case
from retrieval.casebook import Casebook
from retrieval.encoding.text_embedder import Embedder
from retrieval.store.case_changes import CaseChange
from retrieval.text.masking import strip_placeholders
from retrieval.types import LABELS, StoredCase, Vector
from tests.torture.conftest import Figures

SOURCES, WORDS = ("a", "b"), ("disk", "fan", "door", "mail", "job", "node", "link", "port")
_STEPS = Counter[str]()
sources, labels = st.sampled_from(SOURCES), st.sampled_from(LABELS)
texts = st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS), st.integers(0, 3)).map(
    lambda parts: f"{parts[0]} {parts[1]} number {parts[2]}"
)
batches, which = st.lists(st.tuples(texts, labels), min_size=1, max_size=8), st.integers(0, 1)


class HashEmbedder(Embedder):
    """Unit vectors by the hash of a text."""

    def __init__(self) -> None:
        super().__init__(Path("none"))

    @property
    def fingerprint(self) -> str:
        return "hash"

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Vector:
        if progress:
            progress(len(texts))
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
        rows = np.stack([np.random.default_rng(seed).normal(size=384) for seed in seeds]).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class CasebookStates(RuleBasedStateMachine):
    """Each step is done to the casebook, by one of two handles, and to dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.embedder = HashEmbedder()
        self.books = [self.opened(), self.opened()]
        # how often each text came with each label, by source
        self.cases: dict[str, dict[str, dict[str, int]]] = {}
        self.undoable: dict[str, tuple[CaseChange, str, dict[str, int]]] = {}

    def opened(self) -> Casebook:
        return Casebook(self.home, f"sqlite:///{self.home / 'precedent.db'}", lambda: self.embedder)

    @rule(name=sources, new=batches, handle=which, syncs=st.booleans())
    def learn(self, name: str, new: list[tuple[str, Label]], handle: int, syncs: bool) -> None:
        _STEPS["learn"] += 1
        book, known = self.books[handle], self.cases.setdefault(name, {})
        added = book.add(name, [as_case(Record(text=text), label) for text, label in new], "a person")
        counts = Counter(new)
        assert added == sum(label not in known.get(text, {}) for text, label in counts)
        for (text, label), count in counts.items():
            of_text = known.setdefault(text, {})
            of_text[label] = max(count, of_text.get(label, 0))
            self.undoable.pop(f"{name} {text}", None)
        if syncs:
            book.sync(name)

    @rule(name=sources, text=texts, label=labels, handle=which)
    def correct(self, name: str, text: str, label: Label, handle: int) -> None:
        _STEPS["correct"] += 1
        self.books[handle].relabel(name, as_case(Record(text=text), label), "a person")
        self.cases.setdefault(name, {})[text] = {label: 1}
        self.undoable.pop(f"{name} {text}", None)

    @rule(name=sources, place=st.integers(0, 1000), label=st.sampled_from([*LABELS, None]), handle=which)
    def change(self, name: str, place: int, label: str | None, handle: int) -> None:
        stored = self.stored(name)
        if not stored:
            return
        _STEPS["change"] += 1
        case = stored[place % len(stored)]
        known = self.cases[name]
        before = dict(known[case.text])
        change = self.books[handle].change_case(case.case_id, label, "a person")
        assert change is not None
        if label is None:
            del known[case.text][case.label]
            if not known[case.text]:
                del known[case.text]
        else:
            known[case.text] = {label: before[case.label]}
        self.undoable[f"{name} {case.text}"] = change, case.text, before

    @rule(place=st.integers(0, 1000), handle=which)
    def undo(self, place: int, handle: int) -> None:
        if not self.undoable:
            return
        _STEPS["undo"] += 1
        key = sorted(self.undoable)[place % len(self.undoable)]
        change, text, before = self.undoable.pop(key)
        assert self.books[handle].undo(change, "a person")
        self.cases[change.source][text] = before
        assert not self.books[handle].undo(change, "a person"), "once"

    @rule(name=sources, handle=which)
    def rebuild(self, name: str, handle: int) -> None:
        if name not in self.cases:
            return
        _STEPS["rebuild"] += 1
        # the embedded index belongs to one process at a time
        self.books[1 - handle].close()
        self.books[handle].rebuild(name)
        self.books[1 - handle] = self.opened()

    @rule(name=sources, handle=which)
    def remove(self, name: str, handle: int) -> None:
        if name not in self.cases:
            return
        _STEPS["remove"] += 1
        self.books[1 - handle].close()
        self.books[handle].remove(name)
        self.books[1 - handle] = self.opened()
        del self.cases[name]
        self.undoable = {key: kept for key, kept in self.undoable.items() if not key.startswith(f"{name} ")}

    @rule(loses_index=st.booleans())
    def reopen(self, loses_index: bool) -> None:
        _STEPS["reopen"] += 1
        for book in self.books:
            book.close()
        if loses_index:
            shutil.rmtree(self.home / "index", ignore_errors=True)
        self.books = [self.opened(), self.opened()]

    @rule(name=sources, text=texts, handle=which)
    def look(self, name: str, text: str, handle: int) -> None:
        _STEPS["look"] += 1
        record, book, known = Record(text=text), self.books[handle], self.cases.get(name, {})
        found = book.find(name, record, record.content_hash, 3)
        assert found.same_content == {label: known.get(text, {}).get(label, 0) for label in LABELS}
        representation = book.source(name).representation if known else None
        if representation is None:
            assert found.nearest == ()
            return
        query, expected = self.embedder.encode([strip_placeholders(representation.masked(record))])[0], list[float]()
        for label in LABELS:
            masked = {representation.masked(Record(text=case)) for case, of_case in known.items() if label in of_case}
            vectors = self.embedder.encode(list(map(strip_placeholders, masked))) if masked else np.zeros((0, 384))
            expected += sorted((vectors @ query).tolist(), reverse=True)[:3]
        assert sorted(near.similarity for near in found.nearest) == pytest.approx(sorted(expected), abs=1e-5)

    @invariant()
    def holds_what_it_was_given(self) -> None:
        for name in SOURCES:
            given = self.cases.get(name, {}).items()
            held = Counter((case.text, case.label) for case in self.stored(name))
            assert held == Counter((text, label) for text, of_text in given for label in of_text)

    def stored(self, name: str) -> list[StoredCase]:
        return self.books[0].cases(name)

    def teardown(self) -> None:
        for book in self.books:
            book.close()
        shutil.rmtree(self.home, ignore_errors=True)


@pytest.mark.timeout(3600)
def test_the_casebook_holds_what_a_dictionary_holds(is_long: bool, figures: Figures) -> None:
    _STEPS.clear()
    run_state_machine_as_test(
        CasebookStates,
        settings=settings(
            max_examples=400 if is_long else 8,
            stateful_step_count=50 if is_long else 25,
            deadline=None,
            derandomize=not is_long,
            suppress_health_check=list(HealthCheck),
        ),
    )
    figures("casebook", steps=_STEPS.total(), differences=0)
