"""What is forgotten is gone where a server runs, on PostgreSQL and a Chroma server, and from caches of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from agent.core.settings import Settings
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.forget import forget
from agent.training.learn import learn
from retrieval.store.schema import metadata
from tests.cli.test_forget import NAME, OWN, places
from tests.conftest import make_settings
from tests.private_chroma import PrivateChroma
from tests.private_postgres import PrivatePostgres
from tests.served import Served
from tests.shop import LOG

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
TEXT = f"user {NAME} logged in from 10.0.0.77"
CHILD = """
import gc, sys
from agent.core.records import Record
from agent.core.settings import settings
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many

part = bytes.fromhex("5175757820617420686f6d65").decode()

def kept():
    gc.collect()
    return sum(type(value) is str and value is not part and part in value
               for each in gc.get_objects() if type(each) is not type(sys._getframe())
               for value in gc.get_referents(each))

context = AppContext(settings())
chain = build(context)
list(judge_many(context, chain, iter([Record(text="user " + part)]), "shop", "none"))
print(kept(), flush=True)
sys.stdin.readline()
context.source("shop")
print(kept(), flush=True)
"""


def learned(settings: Settings, folder: Path) -> None:
    log = folder / "shop.log"
    log.write_text(LOG + OWN, encoding="utf-8")
    context = AppContext(settings)
    learn(context, [log], "shop", ReadOptions(format="log", label="0", normal=("-",)), brief="a shop", budget=0)
    context.close()
    log.unlink()


def environment(settings: Settings) -> dict[str, str]:
    values = {
        "HOME": settings.home,
        "STORE": settings.store,
        "CHROMA": settings.chroma,
        "MODEL": "none",
        "OFFLINE": "1",
    }
    return {**os.environ, **{f"PRECEDENT_{name}": str(value) for name, value in values.items() if value}}


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """The command `serve` in a process of its own."""
    shared = {name: value for name in ("store", "chroma") if (value := getattr(settings, name))}
    made = Served(settings, **shared)
    try:
        made.wait()
        yield made.url
    finally:
        made.stop()


def judged(url: str, text: str) -> dict[str, Any]:
    answer = httpx.post(f"{url}/v1/verdicts", json={"source": "shop", "text": text}, timeout=60)
    verdict: dict[str, Any] = answer.raise_for_status().json()
    return verdict


def test_a_running_server_forgets(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "home", model="none")
    learned(settings, tmp_path)
    with served(settings) as url:
        assert NAME in str(judged(url, TEXT)["precedents"])
        pattern = {"matching": NAME}
        dry = httpx.post(f"{url}/v1/sources/shop/forget", json={**pattern, "dry_run": True}, timeout=120).json()
        assert dry["erased"]["cases"] == 8
        done = httpx.post(f"{url}/v1/sources/shop/forget", json=pattern, timeout=300).raise_for_status().json()
        assert done["refitted"]
        other = judged(url, "user somebody logged in from 10.0.0.78")
        assert NAME not in json.dumps(other, ensure_ascii=False)
        assert NAME not in httpx.get(f"{url}/v1/cases", params={"limit": 1000}).text
        assert httpx.post(f"{url}/v1/sources/shop/forget", json={"matching": " "}).status_code == 422
    assert not places(tmp_path / "home")


@pytest.mark.postgres
def test_on_postgresql_and_a_chroma_server_while_another_serves(
    tmp_path: Path, postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.index.synced._SMALL", 0)
    chroma = PrivateChroma(tmp_path / "chroma")
    chroma.start()
    settings = make_settings(tmp_path / "home", model="none", store=str(postgres.empty_database()), chroma=chroma.url)
    try:
        learned(settings, tmp_path)
        with served(settings) as url:
            verdict = judged(url, TEXT)
            assert NAME in str(verdict["precedents"])
            context = AppContext(settings)
            result = forget(context, "shop", NAME)
            assert result.erased["cases"] == 8
            assert any("VACUUM" in place for place in result.not_erased)
            assert any("Chroma" in place for place in result.not_erased)
            assert NAME not in json.dumps(judged(url, "user somebody logged in from 10.0.0.7"), ensure_ascii=False)
            assert httpx.get(f"{url}/v1/verdicts/{verdict['id']}").status_code == 404
            with context.casebook.engine.connect() as connection:
                for table in metadata.sorted_tables:
                    rows = [repr(tuple(row)) for row in connection.execute(select(table))]
                    assert not [row for row in rows if NAME in row or json.dumps(NAME)[1:-1] in row], table.name
            context.close()
    finally:
        chroma.stop()


def test_another_process_empties_its_caches(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "home", model="none")
    learned(settings, tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        env=environment(settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert int(child.stdout.readline()) > 0, "its caches hold the record"
    context = AppContext(settings)
    assert forget(context, "shop", NAME).erased["cases"] == 8
    context.close()
    assert child.communicate("\n", timeout=600)[0] == "0\n"
