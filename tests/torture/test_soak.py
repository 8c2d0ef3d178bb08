"""A server that is given new records all the time stays as large and as fast as it was, its history as long as set."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from sqlalchemy import create_engine, text

from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from tests.conftest import POSTGRES, make_settings
from tests.served import ENTRY, Served
from tests.torture.conftest import Figures

pytestmark = [pytest.mark.network, pytest.mark.enable_socket, pytest.mark.timeout(14_400)]
_ROWS, _PRUNED_EVERY = 2_000, 5.0
# Caches so small that they are turned over every few minutes: how they fill, and how memory is then divided among what
# comes and goes in them, takes hours with those of 65,536 texts, and is no growth without end.
SERVE = f"""
import agent.api.state, agent.pipeline.reused_verdicts, agent.pipeline.steps, agent.pipeline.verdict_cache
agent.api.state.PRUNE_SECONDS = {_PRUNED_EVERY}
agent.pipeline.verdict_cache._TEXTS = agent.pipeline.reused_verdicts._LINES = 2_048
agent.pipeline.verdict_cache._TEMPLATES = agent.pipeline.steps._CACHED_RECORDS = 512
{ENTRY}"""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Load:
    """Requests of a known template, of new ones, and streams, ten times a second."""

    def __init__(self, client: httpx.Client) -> None:
        self.client, self.rng, self.records, self.latencies = client, random.Random(1), 0, list[float]()

    def known(self) -> str:
        return f"LOG:  checkpoint complete: wrote {self.rng.randrange(10**9)} buffers"

    def new(self) -> str:
        return " ".join("".join(self.rng.choices(LETTERS, k=7)) for _ in range(6))

    def step(self, number: int) -> None:
        line = self.new() if number % 10 == 0 else self.known()
        started = time.monotonic()
        answer = self.client.post("/verdict/invoke", json={"input": {"text": line, "source": "pg"}})
        self.latencies.append(time.monotonic() - started)
        assert answer.json()["output"]["record"]["text"] == line
        self.records += 1
        if number % 50 == 0:
            self.stream(known=99, new=1)

    def stream(self, known: int, new: int) -> None:
        texts = [self.known() for _ in range(known)] + [self.new() for _ in range(new)]
        lines = "\n".join(json.dumps({"text": text, "source": "pg"}) for text in texts)
        answer = self.client.post("/v1/verdicts", content=lines, headers={"content-type": "application/x-ndjson"})
        assert len(answer.text.splitlines()) == len(texts)
        self.records += len(texts)


def test_memory_and_times_stay_while_new_records_come(
    tmp_path: Path, is_long: bool, seconds: float, figures: Figures
) -> None:
    chosen = make_settings(tmp_path / "home", model="none")
    context = AppContext(chosen)
    options = ReadOptions(label="0", normal=("-",))
    learn(context, [POSTGRES / "learn.log"], "pg", options, brief="PostgreSQL", budget=0)
    context.close()
    served = Served(chosen, code=SERVE, history_rows=_ROWS)
    samples, latencies = list[tuple[float, float]](), list[list[float]]()
    with httpx.Client(base_url=served.url, timeout=120) as client:
        try:
            served.wait()
            load = Load(client)
            # until the caches are full, that of 8,192 embeddings too
            for _ in range(40 if is_long else 1):
                load.stream(known=750, new=250)
            started, number = time.monotonic(), 0
            while (now := time.monotonic() - started) < seconds:
                load.step(number)
                number += 1
                if now >= len(samples) * max(0.5, seconds / 1_000):
                    samples.append((now, served.resident_bytes() / 2**20))
                    latencies.append(load.latencies)
                    load.latencies = []
                time.sleep(max(0.0, number / 10 - (time.monotonic() - started)))
            time.sleep(2 * _PRUNED_EVERY)
        finally:
            errors = served.stop()
    assert served.process.returncode in (0, -15), errors[-2_000:]
    assert "Traceback" not in errors
    with create_engine(chosen.store_url).connect() as connection:
        rows = int(connection.scalar(text("SELECT count(*) FROM verdicts")) or 0)
    # a verdict stays while one that stays is like it
    assert rows <= _ROWS * 1.1
    times, sizes = np.array(samples).T
    settled = times >= seconds / 4
    slope = float(np.polyfit(times[settled], sizes[settled], 1)[0]) * 3_600
    quarter = len(latencies) // 4 or 1
    quarters = latencies[quarter : 2 * quarter] or latencies, latencies[-quarter:]
    second, last = (1_000 * float(np.quantile(np.concatenate(part), 0.95)) for part in quarters)
    figures(
        "soak",
        minutes=round(seconds / 60, 1),
        records=load.records,
        MiB=round(float(sizes[-1])),
        growth_MiB_an_hour=round(slope, 2),
        p95_ms_second_quarter=round(second, 1),
        p95_ms_last_quarter=round(last, 1),
        verdicts_kept=rows,
    )
    if seconds >= 3_600:
        # as one text, which pytest shows whole
        assert slope < 1, " ".join(f"{size:.1f}" for size in sizes[:: max(1, len(sizes) // 100)])
