"""Files that llama.cpp refuses, or that end the process it is in: a sentence that names the file, and no crash."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from llm.errors import ModelFailure
from llm.factory import choose_model
from llm.llamacpp.trial import try_out
from llm.weights.checksum import sha256_of
from llm.weights.resolver import ResolvedModel

UNKNOWN = "0" * 64


@pytest.fixture(scope="module")
def content(smollm: ResolvedModel) -> bytes:
    return smollm.path.read_bytes()


def with_number(content: bytes, key: bytes, value: int) -> bytes:
    """Another 32-bit number as the value of a key of the metadata."""
    place = content.index(key) + len(key) + 4
    return content[:place] + struct.pack("<I", value) + content[place + 4 :]


def in_template(content: bytes, text: bytes) -> bytes:
    place = content.index(b"tokenizer.chat_template") + 23 + 4 + 8
    return content[:place] + text + content[place + len(text) :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: b"", "failed to read magic"),
        (lambda content: b"<html>not found</html>", "invalid magic characters"),
        (lambda content: content[:4] + b"\x09" + content[5:], "version 9"),
        (lambda content: content[:8] + b"\xff" * 16 + content[24:], "number of"),
        (lambda content: content[:100_000], "failed to read key-value pairs"),
        (lambda content: content[:-1], "corrupted or incomplete"),
        (lambda content: with_number(content, b"llama.attention.head_count", 0), "wrong shape"),
        (lambda content: with_number(content, b"llama.block_count", 2**31), r"SIGABRT\) GGML_ASSERT"),
        # the last tensor is of 32-bit floats
        (lambda content: content[:-2_304] + b"\xff\xff\xff\x7f" * 576, "scores of the next token are no numbers"),
        (lambda content: in_template(content, b"\xff\xfe"), "the chat template of own.gguf is broken"),
        (lambda content: in_template(content, b"{% for %}"), "the chat template of own.gguf is broken"),
        (lambda content: in_template(content, b"{#"), "the chat template of own.gguf is broken"),
    ],
    ids=["empty", "none", "version", "counts", "head", "tail", "heads", "abort", "numbers", "bytes", "syntax", "open"],
)
def test_a_damaged_file_is_refused_by_name(
    content: bytes, tmp_path: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(damage(content))
    with pytest.raises(ModelFailure, match=reason) as failure:
        chosen(path, tmp_path)
    assert str(path) in str(failure.value)
    assert "compare its SHA-256" in str(failure.value)


def chosen(path: Path, cache: Path) -> object:
    return choose_model(
        str(path), cache=cache, offline=True, ollama_hosts="", ollama_model="", context_tokens=64, threads=1,
        queue_size=1, timeout=1,
    )  # fmt: skip


def test_a_file_is_tried_once_by_each_llama_cpp(smollm: ResolvedModel, tmp_path: Path) -> None:
    path, cache = tmp_path / "own.gguf", tmp_path / "cache"
    path.symlink_to(smollm.path)
    try_out(path, UNKNOWN, cache)
    path.unlink()
    try_out(path, UNKNOWN, cache)
    (note,) = (cache / "verified").iterdir()
    note.write_bytes(b"llama-cpp-python 0.0.1 \xff")
    with pytest.raises(ModelFailure):
        try_out(path, UNKNOWN, cache)


def test_a_file_of_the_catalog_is_not_tried(smollm: ResolvedModel, tmp_path: Path) -> None:
    try_out(tmp_path / "absent.gguf", smollm.sha256, tmp_path)
    assert sha256_of(smollm.path) == smollm.sha256


def test_one_that_takes_for_ever_is_given_up(smollm: ResolvedModel, tmp_path: Path) -> None:
    with pytest.raises(ModelFailure, match=r"not done with it after 0\.01 s"):
        try_out(smollm.path, UNKNOWN, tmp_path, seconds=0.01)
    assert not list(tmp_path.iterdir())


def test_a_package_of_the_working_directory_is_not_imported(
    smollm: ResolvedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "__init__.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    try_out(smollm.path, UNKNOWN, tmp_path / "cache")
