"""`precedent bench transfer`, `labels` … and `demonstrations`: one of the demonstrations, or all of them."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from agent.core.errors import EXPECTED, translate
from benchmarks.demonstrations import debiasing, forgetting, interpretability, label_share, online, transfer
from benchmarks.demonstrations.report import PAGE, Table, page_with
from benchmarks.progress import print_status

DEMONSTRATIONS: dict[str, ModuleType] = {
    module.NAME: module for module in (transfer, online, forgetting, debiasing, label_share, interpretability)
}
ALL = "demonstrations"


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    name, rest = (arguments[0], arguments[1:]) if arguments else (ALL, [])
    if name == ALL:
        _all(rest)
    elif name in DEMONSTRATIONS:
        _one(name, rest)
    else:
        print_status(f"error: no demonstration {name!r}: {', '.join([*DEMONSTRATIONS, ALL])}")
        sys.exit(2)


def _one(name: str, arguments: Sequence[str]) -> None:
    module = DEMONSTRATIONS[name]
    parser = argparse.ArgumentParser(prog=f"precedent bench {name}", description=f"{module.TITLE}.")
    module.add_options(parser)
    default = getattr(module, "MODEL", "none")
    parser.add_argument("--model", default=default, help="language model, as PRECEDENT_MODEL [%(default)s]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the same there as well")
    parser.add_argument("--write", action="store_true", help="write it to docs/demonstrations.md as well")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="precedent-demonstrations-") as folder:
            tables = list(module.measure(options, Path(folder)))
    except EXPECTED as error:
        expected = translate(error)
        assert expected is not None
        print_status(f"error: {expected}")
        sys.exit(expected.exit_code)
    command = shlex.join(["precedent", "bench", name, *(word for word in arguments if word != "--write")])
    text = _section(module, command, tables)
    if all(word == "--write" for word in arguments):
        # what is concluded is of the public data and the default sizes
        text += f"\n{module.CONCLUDES}"
    if options.write:
        page = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else None
        PAGE.write_text(page_with(page, name, text, list(DEMONSTRATIONS)), encoding="utf-8")
    if options.json:
        text = json.dumps({"command": command, "tables": [table.to_json() for table in tables]}, indent=1)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")
    print(text)


def _section(module: ModuleType, command: str, tables: Sequence[Table]) -> str:
    parts = [f"## {module.TITLE}", module.SHOWS.strip(), f"```sh\n{command}\n```"]
    return "\n\n".join([*parts, *(table.markdown().strip() for table in tables)]) + "\n"


def _all(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog=f"precedent bench {ALL}", description="All demonstrations, one by one.")
    parser.add_argument("--write", action="store_true", help="write docs/demonstrations.md as well")
    options = parser.parse_args(arguments)
    for name in DEMONSTRATIONS:
        _one(name, ["--write"] if options.write else [])


if __name__ == "__main__":
    main()
