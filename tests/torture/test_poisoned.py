"""Wrong corrections of a client make no known anomaly normal; right ones have effect at once."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agent.core.settings import Settings
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from tests.api.keys import Keys, bearer
from tests.conftest import make_settings
from tests.served import eventually, running
from tests.torture.conftest import Figures
from tests.torture.injections import ANOMALOUS, HONEST, NORMAL, filled

pytestmark = pytest.mark.enable_socket

# how often each anomalous kind is known; a kind that is known once is one label against another
KNOWN = (4, 2, 3, 4, 2, 5, 2, 3, 4, 2)
WORDINGS = ("{line}", "{line}", "{line} on rack {n}", "notice: {line}", "{line}, as seen before", "{line} ({n})")
# kinds that no case is like, and what they are
NEW = {
    "normal": (
        "valve {n} opened by schedule",
        "tenant {n} renewed its certificate",
        "the lift {n} reached floor {n}",
        "invoice {n} was printed",
        "user {n} changed the theme",
        "snow plough {n} returned",
        "map tile {n} rendered",
        "greenhouse {n} was watered",
        "tram {n} left depot {n}",
        "recipe {n} was translated",
    ),
    "anomalous": (
        "conveyor {n} jammed",
        "mirror {n} cracked",
        "reactor {n} scrammed",
        "glacier sensor {n} drifted",
        "weld {n} broke",
        "boiler {n} leaks water",
        "antenna {n} misaligned by {n} degrees",
        "brake {n} overheated",
        "drill {n} snapped in hole {n}",
        "pump {n} lost suction",
    ),
}
# kinds that were learned once, with the wrong label
MISTAKES = (
    *("crane {n} parked", "ferry {n} docked", "orchard {n} pruned", "stapler {n} refilled", "curtain {n} drawn"),
    *("teapot {n} warmed", "violin {n} tuned", "ladder {n} folded", "pillow {n} fluffed", "garden gate {n} painted"),
)


class Server:
    """A running server with one key, and what a client does there."""

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(base_url=url, headers=bearer(key), timeout=120)

    def judge(self, texts: list[str]) -> list[dict[str, str]]:
        answer = self._client.post("/v1/verdicts", json={"source": "s", "records": texts})
        assert answer.status_code == 200, answer.text
        verdicts: list[dict[str, str]] = answer.json()
        return verdicts

    def labels(self, texts: list[str]) -> Counter[str]:
        return Counter(verdict["label"] for verdict in self.judge(texts))

    def correct(self, verdict_id: str, label: str) -> httpx.Response:
        return self._client.post(f"/v1/verdicts/{verdict_id}/feedback", json={"label": label})

    def relabel(self, case_id: str, label: str) -> httpx.Response:
        return self._client.patch(f"/v1/cases/{case_id}", json={"label": label})

    def case(self, case_id: str) -> dict[str, list[dict[str, str]]]:
        shown: dict[str, list[dict[str, str]]] = self._client.get(f"/v1/cases/{case_id}").json()
        return shown

    def cases(self, label: str) -> list[str]:
        page = self._client.get("/v1/cases", params={"label": label, "limit": 1000}).json()
        return [case["case_id"] for case in page["cases"]]

    def held(self) -> list[str]:
        return [
            row["held_id"] for row in self._client.get("/v1/held-corrections", params={"limit": 1000}).json()["held"]
        ]

    def decide(self, held_id: str, decision: str) -> httpx.Response:
        return self._client.post(f"/v1/held-corrections/{held_id}/{decision}")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, folder = random.Random(1), tmp_path_factory.mktemp("poisoned")
    known = zip(ANOMALOUS, KNOWN, strict=True)
    lines = [f"bad {filled(template, rng)}" for template, count in known for _ in range(count)]
    lines += [f"- {filled(template, rng)}" for template in (*NORMAL, *HONEST) for _ in range(6)]
    lines += [f"bad {filled(template, rng)}" for template in MISTAKES]
    (folder / "cases.log").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    context = AppContext(make_settings(folder / "home", model="none"))
    learn(context, [folder / "cases.log"], "s", ReadOptions(label="0"))
    context.close()
    return folder / "home"


@pytest.fixture
def settings(learned: Path, tmp_path: Path) -> Settings:
    shutil.copytree(learned, tmp_path / "home", ignore=shutil.ignore_patterns("*.lock"))
    return make_settings(tmp_path / "home", model="none")


@pytest.fixture
def keys(settings: Settings) -> Keys:
    return Keys(settings)


@pytest.fixture
def url(settings: Settings, keys: Keys) -> Iterator[str]:
    keys.add("root", "admin")
    with running(settings) as address:
        assert eventually(lambda: httpx.get(f"{address}/readyz").status_code == 200)
        yield address


def held_out(per_kind: int) -> list[str]:
    rng = random.Random(7)
    return [filled(template, rng) for template in ANOMALOUS for _ in range(per_kind)]


def test_one_client_that_lies_makes_no_known_anomaly_normal(
    url: str, keys: Keys, is_long: bool, figures: Figures
) -> None:
    rng, hostile = random.Random(2), Server(url, keys.add("mallory", "correct"))
    records = held_out(20 if is_long else 5)
    assert hostile.labels(records) == {"anomalous": len(records)}
    count = 200 if is_long else 60
    texts = [filled(rng.choice(WORDINGS).replace("{line}", rng.choice(ANOMALOUS)), rng) for _ in range(count)]
    sent = Counter(hostile.correct(verdict["id"], "normal").status_code for verdict in hostile.judge(texts))
    assert not set(sent) - {200, 202}
    relabelled = Counter(hostile.relabel(case, "normal").status_code for case in hostile.cases("anomalous")[:31])
    assert relabelled[202] >= sum(KNOWN) * 0.5
    labels = hostile.labels(records)
    assert labels == {"anomalous": len(records)}, "neither at once, nor by what was fitted since"
    own = {hostile.decide(held_id, "confirm").status_code for held_id in hostile.held()[:5]}
    assert own == {403}
    figures(
        "poisoned",
        wrong_corrections=count,
        of_them_held=sent[202],
        held_out=len(records),
        made_normal=labels["normal"],
        made_unsure=labels["unsure"],
    )


def test_corrections_that_are_right_have_effect_at_once(url: str, keys: Keys, figures: Figures) -> None:
    rng, honest = random.Random(3), Server(url, keys.add("ada", "correct"))
    texts = {filled(template, rng): label for label, kinds in NEW.items() for template in kinds for _ in range(4)}
    texts |= {filled(template, rng): "normal" for template in MISTAKES for _ in range(2)}
    answers = list[int]()
    for text, label in list(texts.items())[:100]:
        (verdict,) = honest.judge([text])
        answers.append(honest.correct(verdict["id"], label).status_code)
    at_once = answers.count(200) / len(answers)
    assert at_once >= 0.95
    judged = honest.judge(list(texts))
    right = sum(verdict["label"] == label for verdict, label in zip(judged, texts.values(), strict=True)) / len(judged)
    assert right >= 0.95
    figures("corrected", corrections=len(answers), at_once=at_once, followed=right)


def test_a_second_person_decides(url: str, keys: Keys) -> None:
    first, second = (Server(url, keys.add(name, "correct")) for name in ("eve", "bob"))
    text = filled(ANOMALOUS[0], random.Random(4))
    (verdict,) = first.judge([text])
    answer = first.correct(verdict["id"], "normal")
    assert (answer.status_code, answer.json()["case_id"]) == (202, None)
    assert first.correct(verdict["id"], "normal").json()["held"]["held_id"] == answer.json()["held"]["held_id"], "once"
    (held,) = first.held()
    assert first.decide(held, "confirm").status_code == 403
    assert first.labels([text]) == {"anomalous": 1}
    decided = second.decide(held, "confirm").json()
    assert (decided["decision"], decided["decided_by"]) == ("confirmed", "API key bob")
    assert second.labels([text])["anomalous"] == 0, "it has effect, and the other cases do too"
    assert second.decide(held, "reject").status_code == 422, "it is decided"
    assert not first.held()
    assert second.decide("h99", "confirm").status_code == 404
    (case,) = [case for case in second.cases("normal") if text in str(second.case(case))]
    assert second.case(case)["history"][-1]["changed_by"].endswith("API key eve, confirmed by API key bob")
