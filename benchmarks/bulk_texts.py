"""Rows of `benchmarks.speed` on texts: numbers of changing length, CSV, JSON lines and Parquet, and prose.

Each kind is judged by the command `precedent judge` in new processes, alternating with its floor: a polars pipeline
that reads the same file, masks with one pattern, groups by template, joins and writes short lines. Of prose the floor
is sentence-transformers, which encodes the distinct messages.
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.speed import Row, Run

_WORDS = re.findall(
    r"\w+",
    """cache lease shard replica worker handler ingest billing auth gateway index flush commit stream socket timer quota
    snapshot journal fetch retry parcel order meeting winner prize weekend ticket photo dinner account""",
)
_FORMS = (
    "request {id} from {ip}:{port} took {id} ms",
    "{w} {v} id={id} size={id} bytes",
    "user {id} opened session {hex} on node{small}",
    "GET /{w}/{id}/{v}?page={small} HTTP/1.1 {port} {float}",
    "{w}[{port}]: connection from {ip} closed after {float} s",
    "blk_{id} of {w} replicated to {ip}:{port} and {ip}:{port}",
    "job {uuid} of {w} finished: rc={small} elapsed {small}m{small}s",
    "{w} address {address} mapped, {id} pages, {float}%",
    "checksum {hex} of /data/{w}/{small}/part-{small}.bin verified in {float}s",
)
_FIELD = re.compile(r"\{(\w+)\}")
_LEARNED, _MESSAGES = 3_000, 100_000
# of how many lines one is of a new template
_STORM = 10
_FLOOR = """
import sys, polars as pl
path, kind, out = sys.argv[1:]
if kind == "log":
    texts = pl.read_csv(path, has_header=False, separator="\\x01", quote_char=None, new_columns=["message"])
elif kind == "csv":
    texts = pl.read_csv(path, columns=["message"])
elif kind == "jsonl":
    texts = pl.read_ndjson(path, schema={"message": pl.String})
else:
    texts = pl.read_parquet(path, columns=["message"])
masked = texts.with_row_index("line_number", 1).with_columns(
    m=pl.col("message").str.replace_all(r"0x[0-9a-fA-F]+|\\d+", "#")
)
known = masked.select("m").unique(maintain_order=True).with_row_index("template")
known = known.with_columns(label=pl.lit("normal"), probability=pl.lit(0.01))
columns = [pl.lit(path).alias("file"), "line_number", "label", "probability", "template"]
masked.join(known, on="m", how="left").select(columns).write_ndjson(out)
"""
_ENCODE = """
import sys, polars as pl, sentence_transformers
texts = pl.read_csv(sys.argv[2]).get_column("message").unique(maintain_order=True).to_list()
model = sentence_transformers.SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
model.encode(texts, batch_size=128, show_progress_bar=False)
"""
Command = Callable[..., "Run"]


def forms(seed: int = 5) -> list[str]:
    """Forms of log lines, with the names of what varies."""
    rng = random.Random(seed)
    return [
        form.replace("{w}", "".join(rng.sample(_WORDS, 2))).replace("{v}", "-".join(rng.sample(_WORDS, 2)))
        for form in _FORMS * 30
    ]


def filled(form: str, rng: random.Random) -> str:
    """A line of that form; numbers have 1 to 12 digits."""

    def hexadecimal(count: int) -> str:
        return "".join(rng.choices("0123456789abcdef", k=count))

    values: dict[str, Callable[[], str]] = {
        "id": lambda: str(rng.randrange(10 ** rng.randint(1, 12))),
        "small": lambda: str(rng.randrange(10 ** rng.randint(1, 3))),
        "port": lambda: str(rng.randint(1, 65_535)),
        "ip": lambda: ".".join(str(rng.randint(0, 255)) for _ in range(4)),
        "float": lambda: f"{rng.uniform(0, 10 ** rng.randint(0, 4)):.{rng.randint(1, 5)}f}",
        "hex": lambda: hexadecimal(rng.randint(8, 32)),
        "address": lambda: "0x" + hexadecimal(rng.randint(1, 16)),
        "uuid": lambda: "-".join(map(hexadecimal, (8, 4, 4, 4, 12))),
    }
    return _FIELD.sub(lambda match: values[match[1]](), form)


def drawn(count: int, of_forms: Sequence[str], rng: random.Random) -> list[str]:
    """So many lines of forms that are drawn."""
    return [filled(rng.choice(of_forms), rng) for _ in range(count)]


def write(path: Path, kind: str, texts: Sequence[str], labels: Sequence[str]) -> None:
    """Write texts with what exports have beside them."""
    rows = [
        {"@timestamp": "2026-01-02T03:04:05Z", "host": f"web{number % 9}", "message": text, "label": label}
        for number, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    if kind == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif kind == "parquet":
        import polars as pl

        pl.DataFrame(rows).write_parquet(path)
    else:
        path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")


def rows(folder: Path, lines: int, python: Command, precedent: Command) -> list[Row]:
    """Rows for each kind.

    Parameters
    ----------
    folder
        Where files and the data directory are.
    lines
        Lines of each file.
    python, precedent
        Run a program with arguments, and the command, in a new process.
    """
    rng, of_lines = random.Random(1), forms()
    learned = [(filled(form, rng), "bad" if number % 7 == 0 else "normal") for number, form in enumerate(of_lines * 12)]
    write(folder / "learn.csv", "csv", *zip(*learned[:_LEARNED], strict=True))
    precedent(folder, "learn", folder / "learn.csv", "--source", "texts", "--label", "label", "--text", "message")
    texts = drawn(lines, of_lines, rng)
    found: list[Row] = []
    for kind in ("log", "csv", "jsonl", "parquet"):
        file, out = folder / f"texts.{kind}", folder / "texts-out.jsonl"
        write(file, kind, texts, ["normal"] * lines)
        judge = "judge", file, "--source", "texts", "--output", out
        precedent(folder, *judge)
        turns = [(python(_FLOOR, file, kind, folder / "floor.jsonl"), precedent(folder, *judge)) for _ in range(3)]
        floor, run = (min(runs, key=lambda run: run.seconds) for runs in zip(*turns, strict=True))
        name = f"{lines:,} lines with numbers of changing length, {kind}"
        found.append((f"floor: bare polars, {name}", f"{floor.seconds:.1f} s", "1", f"{floor.memory:,.0f} MiB"))
        rate, ratio = lines / run.seconds, floor.seconds / run.seconds
        speed = f"{run.seconds:.1f} s, {rate:,.0f}/s"
        found.append((f"precedent, {name}", speed, f"{ratio:.2f}", f"{run.memory:,.0f} MiB"))
        file.unlink()
    return found


def storm_rows(folder: Path, model: Path, python: Command, precedent: Command, lines: int) -> list[Row]:
    """Rows for lines of known templates, a tenth of them replaced by lines of new ones.

    Of the time with new ones, sentence-transformers' for their texts alone is taken off. The source is that of `rows`.
    """
    rng, of_lines = random.Random(3), forms()
    known = drawn(lines, of_lines, rng)
    new = [" ".join(rng.choices(_WORDS, k=8)) for _ in range(lines // _STORM)]
    mixed = list(known)
    mixed[::_STORM] = new
    files = {name: folder / f"{name}.log" for name in ("known", "storm")}
    for (_, file), texts in zip(files.items(), (known, mixed), strict=True):
        write(file, "log", texts, ["normal"] * lines)
    write(folder / "new.csv", "csv", new, ["normal"] * len(new))
    out = "--source", "texts", "--output", folder / "storm-out.jsonl"
    # templates that were met by chance are remembered
    precedent(folder, "judge", files["known"], *out)
    quiet = min(precedent(folder, "judge", files["known"], *out).seconds for _ in range(2))
    storm, encoding = precedent(folder, "judge", files["storm"], *out), python(_ENCODE, model, folder / "new.csv")
    of_known = storm.seconds - encoding.seconds
    return [
        (f"precedent, {lines:,} lines of known templates", f"{quiet:.1f} s, {lines / quiet:,.0f}/s", "1", ""),
        (
            f"precedent, {lines:,} lines, {len(new):,} of them of new templates",
            f"{storm.seconds:.1f} s; {encoding.seconds:.1f} s to encode the new ones alone",
            f"{quiet / of_known:.2f} of the known ones' speed without them" if of_known > 0 else "",
            f"{storm.memory:,.0f} MiB",
        ),
    ]


def prose_rows(folder: Path, model: Path, python: Command, precedent: Command, count: int = _MESSAGES) -> list[Row]:
    """Rows for prose of which a third of the messages are distinct."""
    rng = random.Random(2)
    messages = [" ".join(rng.choices(_WORDS, k=rng.randint(4, 25))) for _ in range(count // 3)]
    learned = [(text, "bad" if "prize" in text else "ok") for text in messages[:400]]
    write(folder / "learn-prose.csv", "csv", *zip(*learned, strict=True))
    precedent(
        folder, "learn", folder / "learn-prose.csv", "--source", "prose", "--label", "label", "--normal", "ok",
        "--text", "message",
    )  # fmt: skip
    texts = rng.choices(messages, k=count)
    file = folder / "prose.csv"
    write(file, "csv", texts, ["ok"] * count)
    floor = python(_ENCODE, model, file)
    run = precedent(folder, "judge", file, "--source", "prose", "--output", folder / "prose-out.jsonl")
    speed = f"{run.seconds:.1f} s, {count / run.seconds:,.0f}/s"
    return [
        (f"floor: sentence-transformers on the distinct ones of {count:,} messages", f"{floor.seconds:.1f} s", "1", ""),
        (f"precedent, {count:,} messages of prose", speed, f"{floor.seconds / run.seconds:.2f}", ""),
    ]
