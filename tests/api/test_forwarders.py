"""What Vector and Fluent Bit send, and what Grafana shows, is what the server takes and has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.served import Address

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATH, TYPE = "/v1/verdicts", "application/x-ndjson"


@pytest.mark.parametrize("forwarder", ["vector", "fluent-bit"])
def test_the_lines_of_forwarders_are_judged(address: Address, forwarder: str) -> None:
    sent = (EXAMPLES / forwarder / "sent.ndjson").read_bytes()
    answer = httpx.post(f"{address.url}{PATH}", content=sent, headers={"content-type": TYPE, **address.headers})
    verdicts = [json.loads(line) for line in answer.text.splitlines()]
    assert [verdict["label"] for verdict in verdicts] == ["normal", "anomalous"]
    assert {verdict["record"]["file"] for verdict in verdicts} == {"/var/log/shop/web.log"}
    stored = httpx.get(f"{address.url}{PATH}/{verdicts[1]['id']}", headers=address.headers).json()
    assert stored["label"] == "anomalous"


def test_vector_sends_what_the_server_takes() -> None:
    config = yaml.safe_load((EXAMPLES / "vector" / "precedent.yaml").read_text(encoding="utf-8"))
    sink = config["sinks"]["precedent"]
    assert (sink["type"], sink["inputs"], httpx.URL(sink["uri"]).path) == ("http", ["records"], PATH)
    assert (sink["framing"]["method"], sink["encoding"]["codec"]) == ("newline_delimited", "json")
    assert sink["request"]["headers"]["Content-Type"] == TYPE
    keys = re.findall(r'"(\w+)":', config["transforms"]["records"]["source"])
    assert set(keys) == set(json.loads((EXAMPLES / "vector" / "sent.ndjson").read_text().splitlines()[0]))


def test_fluent_bit_sends_what_the_server_takes() -> None:
    config = yaml.safe_load((EXAMPLES / "fluent-bit" / "precedent.yaml").read_text(encoding="utf-8"))["pipeline"]
    (output,) = config["outputs"]
    assert (output["name"], output["uri"], output["format"]) == ("http", PATH, "json_lines")
    assert (output["json_date_key"], output["header"]) == (False, [f"Content-Type {TYPE}"])
    kept = next(filter_["allowlist_key"] for filter_ in config["filters"] if "allowlist_key" in filter_)
    assert set(kept) == set(json.loads((EXAMPLES / "fluent-bit" / "sent.ndjson").read_text().splitlines()[0]))


def expressions(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in expressions(item)]
    if isinstance(node, dict):
        own = [node[key] for key in ("expr", "query") if isinstance(node.get(key), str)]
        return own + [found for item in node.values() for found in expressions(item)]
    return []


def test_every_metric_of_the_dashboard_exists(address: Address) -> None:
    """A gauge of drift has samples only where it has a value; its name is there in any case."""
    dashboard = json.loads((EXAMPLES / "grafana" / "precedent.json").read_text(encoding="utf-8"))
    named = {
        name for expression in expressions(dashboard) for name in re.findall(r"\b(?:precedent|http)_\w+", expression)
    }
    assert len(named) >= 8
    httpx.post(f"{address.url}{PATH}", json={"text": "x"}, headers=address.headers)
    scraped = httpx.get(f"{address.url}/metrics", headers=address.headers).text
    families = set(re.findall(r"^# TYPE (\w+) ", scraped, re.MULTILINE)) | set(
        re.findall(r"^(\w+)", scraped, re.MULTILINE)
    )
    assert named <= families
    drift = {f"precedent_{name}" for name in re.findall(r"precedent_(\w+)", scraped)} - {"precedent_verdicts_created"}
    assert drift <= named | {"precedent_verdicts"}, "a metric that no panel shows"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
