"""Judges fixed records by every entry point and compares the verdicts with `verdicts.jsonl`.

Run ``python -m tests.golden`` to compare and ``python -m tests.golden --write`` to record. It uses only what the design
fixes (the command, ``agent.chain``, ``agent.judge``, ``server.create_app``), so that it survives any move of the code.

A verdict is one line: kind of record, with or without the language model, number of the record, label, probability,
band, the precedents' similarities and labels, SHA-256 of the explanation, what was degraded. Probabilities hold to
1e-6 on one processor; on another, embeddings round differently, so that only labels are compared there (`numerics`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("verdicts.jsonl")
POSTGRES = Path(__file__).resolve().parents[2] / "examples" / "postgres"
MODEL = "embedded:qwen2.5-coder-0.5b"
COMMAND = Path(os.environ.get("PRECEDENT_COMMAND") or Path(sys.executable).with_name("precedent"))
SOURCES = ("log", "texts", "rows", "sessions")
# entry points, each in a process of its own
DOORS = ("bulk", "command", "single", "batch", "http")
# sources judged with the language model too; how many of their records; how many records are judged one by one
WITH_MODEL, FEW, SINGLE = ("log", "texts"), 16, 40

Row = dict[str, Any]


def texts(rng: random.Random, count: int) -> Iterator[Row]:
    """Short messages, one in eight unwanted."""
    who = ["mum", "Anna", "the team", "Joe", "grandma", "your sister"]
    what = ["dinner", "the match", "the meeting", "a walk", "the film", "homework"]
    when = ["tonight", "at 7", "tomorrow", "after work", "on Sunday", "in 10 mins"]
    prize = ["a holiday", "£2000 cash", "a new phone", "500 free minutes", "a gift card"]
    for number in range(count):
        if number % 8 == 3:
            opening = rng.choice(["URGENT!", "Congratulations!", "WINNER!!", "Last chance:"])
            call = rng.choice([f"call 0900{rng.randint(10000, 99999)}", "txt CLAIM to 80808", "reply WIN now"])
            text = f"{opening} you have won {rng.choice(prize)}, {call} {rng.choice(['', 'T&C apply', '18+ only'])}"
        else:
            text = rng.choice(
                [
                    f"are you coming to {rng.choice(what)} {rng.choice(when)}?",
                    f"{rng.choice(who)} says hi, see you {rng.choice(when)}",
                    f"running late for {rng.choice(what)}, sorry!",
                    f"ok, I'll call {rng.choice(who)} {rng.choice(when)}",
                    f"can you tell {rng.choice(who)} that {rng.choice(what)} is {rng.choice(when)}",
                ]
            )
        yield {"text": text.strip(), "label": "spam" if number % 8 == 3 else "ham"}


def rows(rng: random.Random, count: int) -> Iterator[Row]:
    """Payments: numbers, a category, missing values."""
    for number in range(count):
        bad = number % 7 == 5
        quantity = rng.randint(30, 90) if bad and rng.random() < 0.8 else rng.randint(1, 6)
        price = rng.uniform(200, 900) if bad and rng.random() < 0.8 else rng.uniform(5, 60)
        country = rng.choice(["DE", "FR", "IT", "KR", None]) if number % 31 else f"X{number}"
        row = {"quantity": quantity, "price": round(price, 2), "country": country, "retries": rng.choice([0, 0, 1, 2])}
        yield {**row, "label": "fraud" if bad else "normal"}


def sessions(rng: random.Random, count: int) -> Iterator[Row]:
    """Sessions whose anomalies are too many repeats, or an event that is seldom; no two lie at the same place."""
    for number in range(count):
        bad = number % 9 == 4
        events = ["login", *rng.choices(["read block 7", "write block", "list"], k=rng.randint(2, 6))]
        if bad:
            events += rng.choice([["write block"] * 7, ["checksum error on disk 3", "read block 7"], ["login"] * 4])
        yield {"events": [*events, "logout"], "seconds": rng.random() * 90, "label": "1" if bad else "0"}


def write_sources(folder: Path) -> dict[str, list[str]]:
    """Files to learn and to judge of each source; the options that learning takes."""
    for name in ("learn", "judge"):
        lines = (POSTGRES / f"{name}.log").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"log-{name}").write_text("".join(lines[: 700 if name == "learn" else 1500]), encoding="utf-8")
    for seed, (make, count) in enumerate(((texts, 1000), (rows, 480), (sessions, 480))):
        every = list(make(random.Random(seed), count))
        for name, some in (("learn", every[:300]), ("judge", every[250:])):
            # what is judged carries no label
            lines = [json.dumps(row if name == "learn" else {**row, "label": None}) for row in some]
            (folder / f"{make.__name__}-{name}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    jsonl = ["--format", "jsonl", "--label", "label"]
    return {
        "log": ["--format", "log", "--label", "0", "--normal", "-"],
        "texts": jsonl,
        "rows": jsonl,
        "sessions": jsonl,
    }


def run(folder: Path, model: str, *arguments: str) -> str:
    environment = {
        **os.environ,
        "PRECEDENT_HOME": str(folder / f"home-{model.partition(':')[0]}"),
        "PRECEDENT_MODEL": model,
        "PRECEDENT_OFFLINE": "1",
        "PRECEDENT_LANGUAGE_BUDGET": "32",
    }
    ran = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {ran.returncode}:\n{ran.stderr}")
    return ran.stdout


def line_of(verdict: Row) -> list[Any]:
    """What is compared; of cases that are equally near, an index may give any, so that their ids are left out."""
    precedents = verdict["precedents"]
    nearest = {
        label: [p["similarity"] for p in precedents if p["label"] == label][:2] for label in ("normal", "anomalous")
    }
    tied = any(len(two) == 2 and two[0] - two[1] < 1e-5 for two in nearest.values())
    explanation = "" if tied else re.sub(r"\bc\d+\b", "c", verdict["explanation"])
    return [
        verdict["label"],
        [round(number, 8) for number in (verdict["probability"], *verdict["unsure_band"])],
        [round(precedent["similarity"], 7) for precedent in precedents],
        "".join(precedent["label"][0] for precedent in precedents),
        hashlib.sha256(explanation.encode()).hexdigest()[:16],
        list(verdict["degraded"]),
    ]


def judge(door: str, source: str, sent: list[Row]) -> list[Row]:
    """Verdicts by an entry point that this process has; what is printed is JSON."""
    if door == "http":
        from fastapi.testclient import TestClient

        from server import create_app

        with TestClient(create_app(), base_url="http://127.0.0.1") as client:
            answer = client.post("/v1/verdicts", json=sent)
            assert answer.status_code == 200, answer.text
            verdicts: list[Row] = answer.json()
            return verdicts
    import agent

    if door == "batch":
        return [verdict.model_dump(mode="json") for verdict in agent.chain.batch(sent)]
    records = [agent.Record(**{key: value for key, value in row.items() if key != "source"}) for row in sent]
    return [agent.judge(record, source).model_dump(mode="json") for record in records]


def produced(folder: Path, only: Collection[str], models: str) -> Iterator[tuple[str, str, str, int, Row]]:
    """Model, source, entry point, number of the record, verdict."""
    options = write_sources(folder)
    for model, source in [*(("none", name) for name in SOURCES), *((MODEL, name) for name in WITH_MODEL)]:
        if source in only and model.startswith(models):
            how = options[source]
            few = FEW if model == MODEL else None
            brief = (
                (POSTGRES / "brief.txt").read_text(encoding="utf-8") if source == "log" else f"A source of {source}."
            )
            print(f"{time.strftime('%X')} {model}: {source}", file=sys.stderr, flush=True)
            run(folder, model, str(COMMAND), "learn", f"{source}-learn", "--source", source, "--brief", brief, *how)
            asked = folder / f"{source}-asked"
            lines = (folder / f"{source}-judge").read_text(encoding="utf-8").splitlines(keepends=True)
            asked.write_text("".join(lines if few is None else lines[:: len(lines) // few]), encoding="utf-8")
            recorded: list[Row] = []
            for door in DOORS:
                if door in ("bulk", "command"):
                    bulk = ["--llm-calls", "1000", "--detail", "full", "--explain", "facts"] if door == "bulk" else []
                    judged = [str(COMMAND), "judge", asked.name, "--source", source, "--to", "jsonl", *bulk]
                    verdicts = [json.loads(line) for line in run(folder, model, *judged).splitlines()]
                    recorded = [{**verdict["record"], "source": source} for verdict in verdicts]
                else:
                    sent = recorded[: SINGLE if door == "single" else None]
                    (folder / "sent.json").write_text(json.dumps([door, source, sent]), encoding="utf-8")
                    code = "import sys; sys.path.insert(0, sys.argv[1]); import tests.golden.__main__ as g; g.answer()"
                    root = str(Path(__file__).resolve().parents[2])
                    verdicts = json.loads(run(folder, model, sys.executable, "-c", code, root).splitlines()[-1])
                for number, verdict in enumerate(verdicts):
                    yield model.partition(":")[0], source, door, number, verdict


def answer() -> None:
    door, source, sent = json.loads(Path("sent.json").read_text(encoding="utf-8"))
    print("\n" + json.dumps(judge(door, source, sent)), flush=True)


def numerics() -> str:
    """What this processor's embedding of one text rounds to."""
    import torch
    from huggingface_hub import constants  # noqa: F401  (its warnings come before, not within, the measurement)

    torch.manual_seed(0)
    product = torch.randn(64, 384) @ torch.randn(384, 384)
    return hashlib.sha256(torch.nn.functional.gelu(product).numpy().tobytes()).hexdigest()[:16]


def differs(old: list[Any], new: list[Any], *, exact: bool) -> bool:
    if not exact:
        return bool(old[0] != new[0])
    numbers = [*zip(old[1] + old[2], new[1] + new[2], strict=False)]
    close = len(old[2]) == len(new[2]) and all(abs(a - b) <= 1e-6 for a, b in numbers)
    return not close or [old[0], *old[3:]] != [new[0], *new[3:]]


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--write", action="store_true", help="record what is judged now")
    asked.add_argument("--only", default=",".join(SOURCES), help="sources to judge (default: all)")
    asked.add_argument("--model", default="", help="`none` leaves the language model out")
    options = asked.parse_args()
    write, here = options.write, numerics()
    found: dict[str, list[Any]] = {}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for model, source, door, number, verdict in produced(Path(folder), options.only.split(","), options.model):
            key, line = f"{model} {source} {number}", line_of(verdict)
            if differs(found.setdefault(key, line), line, exact=True):
                wrong.append(f"{key}: {door} gives {line}, {DOORS[0]} {found[key]}: {verdict['explanation']}")
    if write:
        lines = [json.dumps({"numerics": here}), *(json.dumps([key, line]) for key, line in found.items())]
        FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        first, *rest = FILE.read_text(encoding="utf-8").splitlines()
        exact = json.loads(first)["numerics"] == here
        before = dict(json.loads(line) for line in rest)
        everything = options.only == ",".join(SOURCES) and not options.model
        if found.keys() - before.keys() or (everything and before.keys() - found.keys()):
            wrong.append(f"{len(before)} records were recorded, {len(found)} were judged")
        wrong += [
            f"{key}: was {old}, is {found[key]}"
            for key, old in before.items()
            if key in found and differs(old, found[key], exact=exact)
        ]
        print("compared exactly" if exact else "another processor: only labels are compared")
    print("\n".join(wrong[:40]))
    print(f"{len(found)} records, {len(wrong)} differences")
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
