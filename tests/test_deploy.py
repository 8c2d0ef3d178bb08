"""The files of `docs/deploy` parse, and what they name exists; `tests/api/test_several_servers.py` starts them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from agent.cli.app import app
from agent.core.settings import _OTHER_NAMES, Settings

DEPLOY = Path(__file__).resolve().parents[1] / "docs" / "deploy"
CHART = DEPLOY / "helm" / "precedent"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
KNOWN = {"PRECEDENT_" + name.upper() for name in Settings.model_fields} | _OTHER_NAMES.keys()


def rendered(template: str, values: dict[str, Any]) -> str:
    """The template as Helm renders it, of the few of its functions that are used."""

    def look_up(path: str) -> Any:
        found: Any = {"Values": values, "Release": {"Name": "here"}}
        for name in path.split(".")[1:]:
            found = found[name]
        return found

    def replaced(expression: re.Match[str]) -> str:
        if sum_of := re.fullmatch(r"add (\S+) (\d+)", expression[1]):
            return str(look_up(sum_of[1]) + int(sum_of[2]))
        path, _, function = expression[1].partition(" | ")
        value = look_up(path)
        return {"": str, "quote": lambda quoted: f'"{quoted}"', "toJson": json.dumps}[function](value)

    conditional = re.compile(r"\{\{- if (\S+) \}\}(.*?)\{\{- end \}\}", re.DOTALL)
    return re.sub(r"\{\{ (.+?) \}\}", replaced, conditional.sub(lambda m: m[2] if look_up(m[1]) else "", template))


def chart(**values: Any) -> list[dict[str, Any]]:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    texts = [rendered(path.read_text(), {**defaults, **values}) for path in sorted((CHART / "templates").iterdir())]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def commands() -> list[list[str]]:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    pods = [document["spec"]["template"]["spec"] for document in chart() if "template" in document["spec"]]
    unit = re.search(r"^ExecStart=\S*/(.*)$", (DEPLOY / "precedent@.service").read_text(), re.MULTILINE)
    image = re.search(r"^CMD (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert unit
    assert image
    return [
        *(service["command"] for service in compose if "command" in service),
        *(container["command"] for pod in pods for container in pod["containers"]),
        unit[1].replace("%i", "8001").split(),
        json.loads(image[1]),
    ]


def test_every_command_is_one_of_ours_or_chromas() -> None:
    for program, *arguments in commands():
        if program == "chroma":
            assert (arguments[0], arguments[1::2]) == ("run", ["--path", "--host", "--port"])
            continue
        assert program == "precedent"
        subcommand = get_command(app).commands[arguments[0]]  # type: ignore[attr-defined]
        # raises for an unknown option or a wrong value
        subcommand.make_context("serve", list(arguments[1:]))


def test_every_setting_exists() -> None:
    named = {name for path in FILES for name in re.findall(r"PRECEDENT_[A-Z_]+", path.read_text())}
    assert named - KNOWN == set()
    assert {"PRECEDENT_DATABASE_URL", "PRECEDENT_CHROMA_URL", "PRECEDENT_API_KEY"} <= named


def test_the_chart_has_its_parts() -> None:
    documents = {(document["kind"], document["metadata"]["name"]): document for document in chart(replicas=3)}
    assert set(documents) == {
        ("Deployment", "here"),
        ("Service", "here"),
        ("PersistentVolumeClaim", "here-cache"),
        ("StatefulSet", "here-chroma"),
        ("Service", "here-chroma"),
    }
    deployment = documents["Deployment", "here"]["spec"]
    assert deployment["replicas"] == 3
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    environment = {variable["name"]: variable for variable in container["env"]}
    assert environment["PRECEDENT_DATABASE_URL"]["valueFrom"]["secretKeyRef"]["key"] == "database-url"
    grace = deployment["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > int(environment["PRECEDENT_SHUTDOWN_TIMEOUT"]["value"])
    volumes = {volume["name"] for volume in deployment["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    classes = [
        claim["spec"].get("storageClassName")
        for claim in chart(cache={"size": "1Gi", "accessMode": "ReadWriteOnce", "storageClass": "fast"})
        if claim["kind"] == "PersistentVolumeClaim"
    ]
    assert classes == ["fast"]


def test_no_image_names_a_registry() -> None:
    text = "\n".join(path.read_text() for path in FILES)
    images = re.findall(r"^\s*(?:image:|FROM) ([^\s{]+)", text, re.MULTILINE)
    assert len(images) >= 5
    assert [image for image in images if "/" in image] == []


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = (DEPLOY / "precedent@.service").read_text()
    program = str(Path(sys.executable))
    copy = tmp_path / "precedent@8001.service"
    copy.write_text(unit.replace("/opt/precedent/bin/precedent", program))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, [line for line in checked.stderr.splitlines() if "precedent" in line]) == (0, [])
