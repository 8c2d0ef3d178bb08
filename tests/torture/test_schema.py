"""The OpenAPI schema is true: schemathesis, with all its checks and phases, against a server with and without keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.settings import Settings
from tests.served import ROOT, Served
from tests.torture.conftest import Figures

pytestmark = [pytest.mark.network, pytest.mark.enable_socket, pytest.mark.timeout(3_600)]
_KEY = "a-key-that-nobody-guesses"
# of each operation, in a usual run and in a long one; operations of which a usual run takes one each
_SHORT, _LONG = 1, 40
_FEW = (
    "/v1/verdicts",
    "/v1/cases",
    "/v1/cases/{case_id}",
    "/v1/cases/{case_id}/changes/last",
    "/v1/sources/{name}",
    "/v1/sources/{name}/proposal",
    "/v1/sources/{name}/rollback",
    "/otlp/v1/logs",
    "/chain/invoke",
    "/chain/batch",
    "/verdict/stream_events",
)


@pytest.mark.parametrize("key", [None, _KEY], ids=["open", "with-key"])
def test_requests_are_answered_as_the_schema_says(
    copy_of: Callable[..., Settings], tmp_path: Path, key: str | None, is_long: bool, figures: Figures
) -> None:
    secret = {} if key is None else {"api_key": key}
    served = Served(copy_of(model="none"), log_level="error", **secret)
    try:
        served.wait()
        report = _examine(served.url, tmp_path / "report.json", key, is_long=is_long)
    finally:
        errors = served.stop()
    assert not report["failures"], json.dumps(report["failures"], indent=1)[:4_000]
    assert not report["errors"], json.dumps(report["errors"], indent=1)[:4_000]
    assert "Traceback" not in errors, errors[-3_000:]
    assert report["test_cases"]["generated"] > len(_FEW), report
    operations, cases = report["operations"]["tested"], report["test_cases"]["generated"]
    if key is not None:
        figures("schema", operations=operations, cases_with_a_key=cases, failures=0)


def _examine(url: str, report: Path, key: str | None, *, is_long: bool) -> dict[str, dict[str, int]]:
    """What schemathesis found."""
    options = ["--checks", "all", "--mode", "all", "--continue-on-failure", "--no-shrink", "--seed", "1"]
    # how long an answer takes is no part of the schema
    options += ["--max-response-time", "600", "--request-timeout", "600", "--generation-database", "none"]
    options += [
        "--max-examples",
        str(_LONG if is_long else _SHORT),
        "--report",
        "json",
        "--report-json-path",
        str(report),
    ]
    if not is_long:
        options += ["--phases", "fuzzing,stateful", *(part for path in _FEW for part in ("--include-path", path))]
    if key is not None:
        options += ["--header", f"Authorization: Bearer {key}"]
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color", "run", f"{url}/openapi.json", *options]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.torture.schema_rules", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=report.parent, env=environment, capture_output=True, text=True)
    assert report.is_file(), done.stdout[-3_000:] + done.stderr[-3_000:]
    found: dict[str, dict[str, int]] = json.loads(report.read_text(encoding="utf-8"))
    # the report names kinds and operations, the output has the requests
    if found["failures"] or found["errors"]:
        print("\n".join(line[:1_000] for line in done.stdout.splitlines()))
    return found
