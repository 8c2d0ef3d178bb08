"""The catalog is there without the extras, and names what is missing."""

from __future__ import annotations

import json

import pytest

from agent.core.errors import MissingPart, UsageError
from agent.detectors.contrib import catalog
from agent.detectors.contrib.resources import NO_RESOURCES
from tests.conftest import Run


@pytest.fixture
def without_pyod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "EXTRAS", {**catalog.EXTRAS, "classical": ("no_package_of_that_name",)})


@pytest.mark.usefixtures("without_pyod")
def test_a_missing_extra_is_named_with_its_command(run: Run) -> None:
    with pytest.raises(MissingPart, match=r"the detector ecod needs the extra \[classical\]"):
        catalog.detectors(["iforest", "ecod"], NO_RESOURCES)
    learned = run("learn", "-", "--source", "s", "--label", "label", "--detector", "ecod")
    assert learned.code == 3
    assert "pip install 'precedent-agent[classical]'" in learned.err
    listed = run("detectors", "list")
    assert "[classical] not installed" in listed.out
    assert "pip install 'precedent-agent[classical]'" in listed.out


def test_an_unknown_name_is_named_with_the_nearest(run: Run) -> None:
    with pytest.raises(UsageError, match="no detector 'iforst': did you mean iforest"):
        catalog.entry("iforst")
    with pytest.raises(UsageError, match="detectors list"):
        catalog.entry("fields")
    learned = run("learn", "-", "--source", "s", "--label", "label", "--detector", "none", "--detector", "iforest")
    assert learned.code == 2


def test_the_list_as_json(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("detectors", "list", "--json").out)}
    assert rows["iforest"]["installed"]
    assert rows["iforest"]["on_text"] == "iforest_text"
    assert rows["ecod"]["extra"] == "classical"
