"""What holds of the whole: imports point one way, modules stay small, nothing is unpickled, nothing names a machine."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("agent", "llm", "retrieval", "server")
MOST_LINES = 350
MODULES = sorted(
    [*(path for room in ("agent", "llm", "retrieval") for path in (ROOT / room).rglob("*.py")), ROOT / "server.py"]
)


def module_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, in functions too; relative ones by their full name."""
    package = module_of(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield prefix
            # `from agent import cli` imports a module as well
            yield from (f"{prefix}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            first = node.args[0] if node.args else None
            assert isinstance(first, ast.Constant), f"{path}:{node.lineno} imports what cannot be seen here"
            yield str(first.value)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_there_is_something_to_look_at() -> None:
    assert {module_of(path).split(".")[0] for path in MODULES} == set(ROOMS)
    assert "agent.api.app" in set(imports_of(ROOT / "server.py"))
    assert "llm.weights.resolver" in set(imports_of(ROOT / "agent" / "pipeline" / "context.py")), (
        "an import in a function is seen"
    )


def test_imports_point_one_way() -> None:
    """The rooms and their order are in pyproject.toml; import-linter sees imports in functions too."""
    ran = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "1 kept, 0 broken" in ran.stdout


@pytest.mark.parametrize("path", MODULES, ids=module_of)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, "split it along one of the design's words"


def test_nothing_is_unpickled() -> None:
    """A pickle runs what is in it: fitted models are kept as arrays or by skops."""
    forbidden = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    for path in [path for path in tracked() if path.suffix == ".py"] + MODULES:
        found = {name.split(".")[0] for name in imports_of(path)} & forbidden
        assert not found, f"{path} imports {found}"


# built so that this file does not hold them itself
_MACHINES = ("/" + "work/", "/" + "root/", "/" + "home/runner")
_REGISTRIES = (
    "pypi" + ".org",
    "python" + "hosted.org",
    "--index" + "-url",
    "--extra" + "-index-url",
    "--find" + "-links",
)
# no registry: the wheels of `make wheelhouse`, in the folder in which pip runs
_OWN_WHEELS = "--no-index --find" + "-links . "
_OTHER_REGISTRY = re.compile(r"https?://[^\s/\"']*(?:artifactory|nexus|jfrog|devpi|/simple/?\b|pypi)", re.IGNORECASE)


def test_nothing_names_a_registry_or_a_machine() -> None:
    """Which registry is asked, and where the project lies, is the machine's own affair."""
    for path in tracked():
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            found = [name for name in (*_MACHINES, *_REGISTRIES) if name in line.replace(_OWN_WHEELS, "")]
            assert not found, f"{path.relative_to(ROOT)}:{number} names {found}: {line.strip()[:120]}"
            assert not _OTHER_REGISTRY.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"


# private metaphors of earlier versions, with the term that replaced them
_METAPHORS = {"heard": "queried", "unheard": "not queried", "witness": "detector or signal", "witnesses": "detectors"}
_METAPHORS |= {"told": "given, reported"}
_PROSE = ("agent/", "llm/", "retrieval/", "prompts/", "docs/", "server.py", "README.md", "CONTRIBUTING.md", "Makefile")
# migrations name tables as they once were
_OLD_NAMES = "retrieval/store/migrations/"


def test_no_private_metaphors_in_code_and_documentation() -> None:
    banned = re.compile(rf"\b({'|'.join(_METAPHORS)})\b", re.IGNORECASE)
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(_PROSE) or name.startswith(_OLD_NAMES) or path.suffix in (".png", ".npz"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            found = banned.search(line)
            assert not found, f"{name}:{number}: {found[0]!r}; say {_METAPHORS[found[0].lower()]}: {line.strip()[:120]}"


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after ``code``."""
    report = "import sys, json; print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    # a process of the command leaves by os._exit
    leaving = f"leave = os._exit\nos._exit = lambda code: (exec({report!r}), sys.stdout.flush(), leave(code))"
    script = f"import atexit, os, sys\natexit.register(lambda: exec({report!r}))\n{leaving}\n{code}"
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(ran.stdout.splitlines()[-1]))


def test_importing_agent_loads_no_model() -> None:
    loaded = loaded_by("import agent")
    assert "agent" in loaded
    assert not loaded & {"torch", "llama_cpp", "chromadb", "sentence_transformers", "transformers", "sklearn"}


def test_the_nouns_load_no_model_either() -> None:
    loaded = loaded_by("from agent import Case, Record, Verdict; Record(text='x')")
    assert "pydantic" in loaded
    assert not loaded & {"torch", "llama_cpp", "chromadb", "langchain", "langchain_core", "sqlalchemy"}


def test_help_is_quick() -> None:
    loaded = loaded_by("import sys; sys.argv = ['precedent', '--help']; from agent.cli.app import main; main()")
    assert "typer" in loaded
    assert not loaded & {"torch", "langchain", "langchain_core", "polars", "chromadb", "llama_cpp", "sklearn"}
