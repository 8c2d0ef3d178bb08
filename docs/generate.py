"""Generated pages: `make docs WRITE=1` writes them, `make docs` fails if one is out of date."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import click
import typer
from pydantic import BaseModel

import agent
from agent.cli.app import app
from agent.core.settings import Settings
from agent.data.datasets.catalog import ACCESS, NOT_RECORDED, catalog
from agent.training.ollama_export import compose
from llm.ollama.modelfile import families
from server import create_app

_ROOT = Path(__file__).resolve().parents[1]
# rooms that no import contract names
_BESIDE = ("prompts/", "benchmarks/", "docs/", "tests/")
_WIDTH = 100
_WITH_METHODS = ("Detector", "PrecedentClassifier")
_OTHER_ROUTES = {
    "POST /otlp/v1/logs": ("judge", "Judge the log records of an OTLP exporter, as protobuf or JSON."),
    "POST /mcp": ("that of the tool", "The tools of the Model Context Protocol, by streamable HTTP."),
    "POST /chain/invoke, /chain/stream": ("judge", "The chat agent, by LangServe; playground at `/chain/playground/`."),
    "POST /verdict/invoke, /verdict/batch": ("judge", "A verdict, by LangServe; playground at `/verdict/playground/`."),
    "GET /metrics": ("read", "Prometheus metrics."),
}
_MODELFILE = """Llama 3 as a judge in Ollama (generated: make docs WRITE=1):
  ollama pull llama3.2 && ollama create precedent -f Modelfile && ollama run precedent "kernel panic - not syncing"
Other weights for FROM: llama3.1:8b (better, 5 GB), llama3.2:1b (smaller), ./model.gguf (a quantized Llama 3 Instruct).
`precedent ollama create --source NAME` makes one with the brief and the cases of a source."""


def cli() -> str:
    """The help of each command."""
    out = [
        "# Commands",
        "",
        "Exit codes: 0 done, 1 some records could not be judged, 2 usage, 3 a needed part is missing.",
        "",
    ]

    def add(command: click.Command, name: str) -> None:
        context = click.Context(command, info_name=name, terminal_width=_WIDTH, max_content_width=_WIDTH)
        out.extend([f"## {name}", "", "```text", command.get_help(context).rstrip(), "```", ""])
        if hasattr(command, "commands"):  # typer vendors click: its Group is not click.Group
            for part in command.commands.values():
                add(part, f"{name} {part.name}")

    add(typer.main.get_command(app), "precedent")
    return "\n".join(line.rstrip() for line in "\n".join(out).splitlines()) + "\n"


def settings() -> str:
    """Each setting with its environment variable and default."""
    rows = [
        "# Settings",
        "",
        "An environment variable wins over the configuration file, and that over the default. The file is",
        "`precedent.toml` in the user's configuration folder (Linux: `~/.config/precedent`), or the one that",
        "`precedent --config FILE` or `PRECEDENT_CONFIG` names; that of the working directory is not read, since it",
        "may have come with the records.",
        "",
    ]
    rows += ["| variable | in precedent.toml | default | what |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "the system's data or cache folder" if name in ("home", "cache") else field.get_default()
        default = "http://127.0.0.1:11434" if name == "ollama_hosts" else default
        rows.append(f"| `PRECEDENT_{name.upper()}` | `{name}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def modelfile() -> str:
    """The Modelfile of the repository: Llama 3, for no particular source."""
    return compose(None, None, "llama3.2", families()["llama3"]).render(_MODELFILE)


def openapi() -> str:
    """The OpenAPI schema of /v1 and the health routes; those of LangServe are documented at `/docs`."""
    with tempfile.TemporaryDirectory() as home:
        schema = create_app(Settings(home=Path(home))).openapi()
    schema["paths"] = {
        path: what for path, what in schema["paths"].items() if path.startswith(("/v1", "/healthz", "/readyz"))
    }
    schema["components"] = {
        "securitySchemes": schema["components"]["securitySchemes"],
        "schemas": {
            name: what
            for name, what in schema["components"]["schemas"].items()
            if f'/{name}"' in json.dumps([schema["paths"], schema["components"]["schemas"]])
        },
    }
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def http() -> str:
    """Each route of the OpenAPI schema in a line."""
    rows = ["# HTTP", "", "The bodies are in [openapi.json](openapi.json), and at `/docs` of the server.", ""]
    rows += [
        "Where the server has keys, a route needs one with that role or a higher one (read, judge, correct, admin).",
        "",
    ]
    rows += ["| route | role | what |", "|---|---|---|"]
    for path, methods in sorted(json.loads(openapi())["paths"].items()):
        for method, what in methods.items():
            summary = what.get("description", what["summary"]).partition("\n")[0].replace("|", "\\|")
            role = ", ".join(what["security"][0]["API key"]) if what["security"] else "none"
            rows.append(f"| `{method.upper()} {path}` | {role} | {summary} |")
    rows += [f"| `{route}` | {role} | {what} |" for route, (role, what) in _OTHER_ROUTES.items()]
    return "\n".join(rows) + "\n"


def python() -> str:
    """The names of the package, with their signatures and docstrings."""
    rows = ["# Python", "", "`from agent import " + ", ".join(sorted(agent.__all__, key=str.lower)) + "`", ""]
    rows += ["## chain", "", "A LangChain Runnable: a `Record`, a text or a dict with `source` to a `Verdict`.", ""]
    for name in sorted(set(agent.__all__) - {"chain"}, key=str.lower):
        named = getattr(agent, name)
        shown = [named, *(value for part, value in vars(named).items() if _is_method(part, value))]
        rows += [f"## {name}", "", "```text"]
        for part in shown if name in _WITH_METHODS else [named]:
            rows += [f"{part.__qualname__}{_signature(part)}", "", inspect.getdoc(part) or "", ""]
        rows[-1:] = ["```", ""]
    return "\n".join(rows).rstrip() + "\n"


def datasets() -> str:
    """Each data set of the catalog."""
    rows = [
        "# Data sets",
        "",
        "`precedent datasets list` shows these, `precedent datasets get NAME --from FILE` makes `train` and `test`",
        "files of one, with a column `label` that is `normal` or the kind of anomaly, and prints the commands that",
        "learn and evaluate them:",
        "",
        "```text",
        "precedent datasets get nsl-kdd --from NSL-KDD.zip",
        "precedent learn nsl-kdd/train.csv --source nsl-kdd --label label",
        "precedent evaluate nsl-kdd/test.csv --source nsl-kdd --label label",
        "```",
        "",
        "FILE is a file, an archive or a folder of what the publisher gives, packed or not. Nothing is fetched without",
        "`--download`, which only works for sets that need no account. The published split is kept where there is",
        "one; `--rows N` draws at most that many rows of each file. Rows that cannot be read are counted and named",
        "(exit code 1). The SHA-256 of the file at hand is compared with the recorded one, or printed where none is;",
        "`dataset.json` beside the files keeps it. No pickle is loaded.",
        "",
        "| name | what | size | access |",
        "|---|---|---|---|",
    ]
    rows += [
        f"| [{entry.name}](#{entry.name}) | {entry.about} | {entry.size} | {ACCESS[entry.access]} |"
        for entry in catalog().values()
    ]
    for entry in catalog().values():
        rows += ["", f"## {entry.name}", "", f"{entry.title}. {entry.about}.", ""]
        items = {"source": entry.source, "licence": entry.licence, "size": entry.size, "label": entry.label}
        items |= {"split": entry.split, "how to get it": entry.get}
        items["read from"] = "; or ".join(layout.about for layout in entry.layouts)
        if entry.downloads:
            items["downloaded"] = ", ".join(file.name for file in entry.downloads)
        digests = [f"`{file.sha256}` of {file.name} ({file.origin})" for file in entry.digests]
        items["SHA-256"] = ", ".join(digests) or NOT_RECORDED
        rows += [f"- {name}: {value}" for name, value in items.items()]
    return "\n".join(rows) + "\n"


def _is_method(name: str, value: object) -> bool:
    return inspect.isfunction(value) and not name.startswith("_") and value.__doc__ is not None


def _signature(named: Any) -> str:
    if inspect.isclass(named) and issubclass(named, BaseModel):
        fields = (f"{name}: {inspect.formatannotation(field.annotation)}" for name, field in named.model_fields.items())
        # addresses of functions differ by process
        return re.sub(r" at 0x[0-9a-f]+", "", f"({', '.join(fields)})")
    # annotations are texts there
    return str(inspect.signature(named)).replace("'", "") if named is not agent.Detector else ""


def architecture() -> str:
    """docs/architecture.md with its two generated blocks: the packages by their docstrings, and the import layers."""
    page = (_ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    contract = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers: list[str] = contract["contracts"][0]["layers"]
    packages = [f"{name.replace('.', '/')}/" for layer in layers for name in re.split(r"\W*[:|]\W*", layer)]
    rooms = ["server.py", "agent/__init__.py", *packages, *_BESIDE]
    table = ["| room | holds |", "|---|---|", *(f"| `{room}` | {_summary(room)} |" for room in rooms)]
    blocks = {"rooms": table, "layers": ["```text", *layers, "```"]}
    for name, lines in blocks.items():
        start, end = (page.index(mark) for mark in (f"<!-- {name}:", f"<!-- /{name} -->"))
        page = "\n".join([page[:start] + page[start:].partition("\n")[0], *lines, page[end:]])
    return page


def _summary(room: str) -> str:
    """The first paragraph of a room's docstring."""
    path = _ROOT / room
    source = path if path.is_file() else path / "__init__.py"
    docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))
    return " ".join((docstring or "").partition("\n\n")[0].split())


PAGES = {
    "docs/architecture.md": architecture,
    "docs/datasets.md": datasets,
    "docs/reference/cli.md": cli,
    "docs/reference/settings.md": settings,
    "docs/reference/http.md": http,
    "docs/reference/openapi.json": openapi,
    "docs/reference/python.md": python,
    "Modelfile": modelfile,
}


def main() -> int:
    stale = []
    for name, make in PAGES.items():
        path, made = _ROOT / name, make()
        if "--write" in sys.argv:
            path.write_text(made, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != made:
            stale.append(name)
    if stale:
        print(f"out of date: {', '.join(stale)}; `make docs WRITE=1` rewrites them", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
