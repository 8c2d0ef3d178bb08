"""The documentation as a site: it builds strictly, loads nothing from elsewhere, and its examples run as shown."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import docs.generate
from agent.core.settings import _NOT_SETTINGS, _OTHER_NAMES, Settings
from tests.served import Address, address, copy_of, learned

__all__ = ["address", "copy_of", "learned"]
ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
LOCAL = "http://127.0.0.1:8000"
COMMAND = [sys.executable, "-c", "from agent.cli.app import main; main()"]


class Loaded(HTMLParser):
    """The addresses that a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        loads = {"script": "src", "img": "src", "iframe": "src", "source": "src"}
        if tag == "link" and named.get("rel") not in ("canonical", "prev", "next"):
            self.addresses.append(named.get("href") or "")
        elif tag in loads:
            self.addresses.append(named.get(loads[tag]) or "")


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """Strictly: a link to a page or a heading that is not there is an error."""
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    built = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        found = Loaded()
        found.feed(page.read_text(encoding="utf-8"))
        assert [each for each in found.addresses if re.match(r"(?:https?:)?//", each)] == [], page
    assert not any("fonts.googleapis" in style.read_text(encoding="utf-8") for style in site.rglob("*.css"))


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    return [(language, code) for language, code in found if language in languages]


def test_the_analysts_examples_run_as_shown(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PRECEDENT_")}
    environment = {
        **kept,
        "PRECEDENT_HOME": str(tmp_path / "home"),
        "PRECEDENT_OFFLINE": "1",
        "PRECEDENT_MODEL": "none",
        "PYTHONPATH": str(ROOT),
    }
    for language, code in blocks("analyst", "python", "sh"):
        commands = (
            [[sys.executable, "-c", code]]
            if language == "python"
            else [[*COMMAND, *shlex.split(line)[1:]] for line in code.replace("\\\n", "").splitlines()]
        )
        for command in commands:
            ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
    assert len((tmp_path / "verdicts.csv").read_text(encoding="utf-8").splitlines()) == 31


@pytest.mark.network
@pytest.mark.enable_socket
@pytest.mark.parametrize("address", [None], indirect=True, ids=["open"])
@pytest.mark.parametrize(("page", "language"), [("developer", "python"), ("operator", "sh")])
def test_the_examples_that_need_a_server_run_as_shown(
    address: Address, page: str, language: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = 0
    for _, code in blocks(page, language):
        if LOCAL not in code:
            continue
        local = code.replace(LOCAL, address.url)
        if language == "python":
            exec(local, {"__name__": "example"})
        else:
            shell = subprocess.run(["bash", "-ec", local], cwd=ROOT, capture_output=True, text=True, check=False)
            assert shell.returncode == 0, shell.stderr
            assert '"label": "anomalous"' in shell.stdout
        ran += 1
    assert ran == {"developer": 4, "operator": 1}[page]
    if page == "developer":
        assert capsys.readouterr().out.count("anomalous") >= 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_pages_name_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    known = {f"PRECEDENT_{name.upper()}" for name in Settings.model_fields} | _NOT_SETTINGS | _OTHER_NAMES.keys()
    assert set(re.findall(r"\bPRECEDENT_[A-Z_]+\b", text)) <= known
    commands = set(re.findall(r"^## precedent ([\w -]+)$", docs.generate.cli(), re.MULTILINE))
    for named in re.findall(r"(?:^|`)precedent ([a-z]+(?: [a-z]+)?)", text, re.MULTILINE):
        assert named in commands or named.split()[0] in commands, named
    for path in re.findall(r"\bexamples/[\w./-]+", text):
        assert (ROOT / path).exists(), path
