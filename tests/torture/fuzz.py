"""``make fuzz``: coverage-guided fuzzing (atheris) of what reads files, texts, requests, backups and chat templates.

``python -m tests.torture.fuzz [--seconds 240] [TARGET …]``. What makes a target fail stays in build/fuzz/TARGET.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

FOLDER = Path("build/fuzz")
PACKAGES = Path(".venv/audit")
# libFuzzer ends a target that takes so many seconds for one input
_HANGS = 10
Target = Callable[[bytes], object]


def main(arguments: list[str]) -> int:
    """Fuzz the targets; the exit code: 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help="all by default")
    parser.add_argument("--seconds", type=int, default=240)
    options = parser.parse_args(arguments)
    return int(None in fuzzed_together(options.targets or list(TARGETS), options.seconds))


def fuzzed_together(names: list[str], seconds: int) -> list[int | None]:
    """What `fuzzed` returns for each of the targets, two of which run at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda name: fuzzed(name, seconds), names))


def fuzzed(name: str, seconds: int) -> int | None:
    """Fuzz a target in a process of its own; how many inputs it was given, None if it failed."""
    folder = FOLDER / name
    (corpus := folder / "corpus").mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds_of(name)):
        (corpus / f"seed{number}").write_bytes(seed)
    flags = [f"-max_total_time={seconds}", f"-timeout={_HANGS}", f"-artifact_prefix={folder}/", "-rss_limit_mb=4096"]
    command = [sys.executable, "-c", "from tests.torture.fuzz import fuzz; fuzz()", name, *flags, corpus]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace", check=False)
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    runs = re.search(r"^Done (\d+) runs", done.stderr, re.MULTILINE)
    if done.returncode or not runs:
        print(f"{name}: failed, see {folder / 'output.txt'}", flush=True)
        return None
    print(f"{name}: {int(runs[1]):,} inputs", flush=True)
    return int(runs[1])


def fuzz() -> None:
    """Run one target until its time is over or an input fails."""
    sys.path += list(map(str, PACKAGES.glob("lib/python*/site-packages")))
    import atheris

    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["agent", "retrieval", "llm", "jinja2"]):
        target = TARGETS[name]()
    atheris.Setup(sys.argv, lambda content: target(bytes(content)))
    atheris.Fuzz()


def seeds_of(name: str) -> list[bytes]:
    """Inputs that a target is given first."""
    from tests.torture.injections import KINDS
    from tests.torture.test_fuzzed import LOG, ROWS, seeds

    files = seeds()
    if name in ("log", "masking", "redaction"):
        lines = LOG.splitlines()
        mail = b"user a@b.cd paid with 4111 1111 1111 1111, password=hunter2 https://u:p@h/x DE89370400440532013000"
        return [*lines[:20], mail, *(order.encode() for order in KINDS)]
    if name == "requests":
        return [json.dumps(row).encode() for row in ROWS[:3]] + [b'{"text": "x", "source": "s", "explain": "llm"}', LOG]
    if name == "backup":
        return [_backup_seed()]
    if name == "chat_template":
        return [template.encode() for template in _TEMPLATES]
    endings = {"tables": ("csv", "tsv"), "json": ("jsonl", "json"), "packed": ("gz",)}[name]
    return [content for file, content in files.items() if file.endswith(endings)]


def _backup_seed() -> bytes:
    """Details of a backup, and a small store, as the target takes them."""
    from retrieval.store.engine import open_store
    from retrieval.store.schema import HEAD

    member = {"name": "precedent.db", "size": "SIZE", "sha256": "DIGEST"}
    details = {"format": "precedent backup", "version": 1, "schema": HEAD, "sources": {"s": {"normal": 1}}}
    created = {"created_at": "2026-11-27T00:00:00+00:00", "precedent": "1", "members": [member]}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "precedent.db")
        open_store(f"sqlite:///{file}").dispose()
        return json.dumps(details | created).encode() + b"\0" + file.read_bytes()


def _reader(*names: str) -> Target:
    """What reads a file by rows and by blocks; the first byte chooses among ``names``."""
    from agent.core.errors import InputError
    from agent.data.block_readers import open_blocks
    from agent.data.read_options import ReadOptions
    from agent.data.readers.byte_stream import Damaged

    folder = Path(tempfile.mkdtemp(prefix="precedent-fuzz"))

    def read(content: bytes) -> None:
        path = folder / names[content[0] % len(names) if content else 0]
        path.write_bytes(content)
        with suppress(InputError):
            for _ in ReadOptions(multiline="off").read(path, 65_536, lenient=True):
                pass
        with (
            suppress(InputError, Damaged),
            ReadOptions().open(path, 65_536, lenient=True) as (stream, kind, request),
        ):
            table = open_blocks(stream, kind, request, 4_096)
            for _ in table.blocks if table else ():
                pass

    return read


def _log() -> Target:
    from agent.data.read_options import ReadOptions

    path = Path(tempfile.mkdtemp(prefix="precedent-fuzz")) / "a.log"

    def read(content: bytes) -> None:
        text = content.decode("utf-8", "replace")
        if not text.strip() or not all(sign.isprintable() or sign == "\n" for sign in text):
            return
        path.write_bytes(text.encode())
        rows = list(ReadOptions(format="log", multiline="off").read(path, 65_536, lenient=True))
        numbers = [getattr(row, "record", row).line for row in rows]
        assert numbers == [number for number, line in enumerate(text.split("\n"), start=1) if line.strip()]

    return read


def _masking() -> Target:
    import polars as pl

    from retrieval.text.masked_forms import masked_forms
    from retrieval.text.masking import mask, remask
    from retrieval.text.prompt_injection import find_injections, plain, remove_injections
    from retrieval.text.template_hash import template_skeleton

    digits = str.maketrans("0123456789", "3507162984")

    def masked(content: bytes) -> None:
        lines = content.decode("utf-8", "replace").replace("\0", " ").splitlines()[:8]
        # the same with other numbers, and with longer ones
        lines = [other for line in lines for other in (line, line.translate(digits), line.replace("1", "123"))]
        if not lines:
            return
        by_form, by_skeleton = dict[str, str](), dict[str, str]()
        for line, form in zip(lines, masked_forms(pl.Series(lines, dtype=pl.String), longest=1_000), strict=True):
            of_line = remask(plain(line))
            assert by_form.setdefault(form, of_line) == of_line, line
            assert by_skeleton.setdefault(template_skeleton(line), remask(line)) == remask(line), line
            mask(line)
            find_injections(line)
            remove_injections(line)

    return masked


def _redaction() -> Target:
    import polars as pl

    from retrieval.text.redaction import KINDS, Redactor

    redactor = Redactor(KINDS, b"a key of a source")

    def redacted(content: bytes) -> None:
        text = content.decode("utf-8", "replace")
        found = redactor.text(text)
        assert redactor.text(found) == found
        assert redactor.suspects(pl.Series([text]))[0] or found == text
        redactor.field(text[:8], text[8:])

    return redacted


def _requests() -> Target:
    from pydantic import ValidationError

    from agent.chat import pasted, shapes
    from agent.chat.intents import normalise
    from agent.core.errors import PrecedentError
    from agent.core.requests import parse_request, parse_text_request

    def parsed(content: bytes) -> None:
        text = content.decode("utf-8", "replace")
        normalise(text)
        shapes.fenced(text), shapes.path_in(text), list(shapes.cuts(text)), shapes.record_likeness(text)
        with suppress(PrecedentError, ValidationError):
            pasted.requests_of(text, None, 65_536)
        try:
            sent: Any = json.loads(content)
        except (ValueError, RecursionError):
            return
        fast = parse_text_request(sent, 65_536)
        with suppress(PrecedentError, ValidationError):
            request = parse_request(sent, 65_536)
            assert fast is None or fast.record == request.record
            return
        assert fast is None, "what is not valid was taken"

    return parsed


def _backup() -> Target:
    from agent.core.errors import EXPECTED
    from agent.core.settings import Settings
    from agent.pipeline.restore import restore

    folder = Path(tempfile.mkdtemp(prefix="precedent-fuzz"))
    settings = Settings.model_validate({"home": folder / "home", "offline": True, "model": "none"})
    archive = folder / "backup.zip"

    def restored(content: bytes) -> None:
        # with sums that are right: behind wrong ones nothing is read
        details, _, store = content.partition(b"\0")
        with zipfile.ZipFile(archive, "w") as members:
            size, digest = str(len(store)).encode(), hashlib.sha256(store).hexdigest().encode()
            members.writestr("manifest.json", details.replace(b"SIZE", size).replace(b"DIGEST", digest))
            members.writestr("precedent.db", store)
        with suppress(*EXPECTED):
            restore(settings, archive, overwrite=True)
        archive.write_bytes(content)
        with suppress(*EXPECTED):
            restore(settings, archive, overwrite=True)

    return restored


def _chat_template() -> Target:
    from langchain_core.messages import HumanMessage

    from agent.core.settings import settings
    from llm.errors import ModelFailure
    from llm.llamacpp.chat_template import ChatTemplate
    from llm.llamacpp.gguf import Weights
    from llm.ollama.modelfile import family_of
    from llm.weights.resolver import resolve

    path = resolve("smollm2-135m", cache=settings().cache, offline=True).path
    weights = Weights(path, vocabulary_only=True)

    def rendered(content: bytes) -> None:
        # a template is a program: what multiplies or counts may do so for hours, which `llm.llamacpp.trial` is for
        if b"*" in content or b"range" in content:
            return
        with suppress(ModelFailure):
            weights.chat_template = weights.decoded(content, "chat template")
            with suppress(ModelFailure):
                family_of(weights.chat_template, path.name)
            assert len(ChatTemplate(weights).prompt([HumanMessage("a record")]))

    return rendered


_TEMPLATES = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}",
    "{{- bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{%- for m in messages[1:] + messages %}[{{ loop.index0 % 2 }}] {{ m.content ~ eos_token }}{% endfor %}",
    "{% macro content(m) %}{{ m.content }}{% endmacro %}{% set ns = namespace(n=0) %}{% for m in messages %}"
    "{% set ns.n = ns.n + 1 %}{% if ns.n > 9 %}{% break %}{% endif %}{{ content(m) }}{# note #}{% endfor %}"
    "{% if add_generation_prompt and tools is not defined %}{{ 'assistant: ' }}{% endif %}",
)

TARGETS: dict[str, Callable[[], Target]] = {
    "log": _log,
    "tables": lambda: _reader("a.csv", "a.tsv"),
    "json": lambda: _reader("a.jsonl", "a.json"),
    "packed": lambda: _reader("a.log.gz", "a.parquet", "a.csv.zst", "a.log.bz2"),
    "masking": _masking,
    "redaction": _redaction,
    "requests": _requests,
    "backup": _backup,
    "chat_template": _chat_template,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
