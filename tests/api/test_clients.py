"""LangServe's client and curl, against the running server, without and with an API key."""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings

import httpx
import pytest

from tests.served import Address
from tests.shop import ANOMALOUS

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]


def test_langserves_client_judges(address: Address) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langserve import RemoteRunnable
    verdict = RemoteRunnable(f"{address.url}/verdict", headers=address.headers).invoke({"text": ANOMALOUS})
    assert verdict["label"] == "anomalous"
    chat = RemoteRunnable(f"{address.url}/chain", headers=address.headers)
    assert verdict["id"] in chat.invoke({"messages": [{"type": "human", "content": ANOMALOUS}]})
    if address.key:
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            RemoteRunnable(f"{address.url}/verdict").invoke({"text": ANOMALOUS})


def test_curl_judges(address: Address) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    sent = ["-d", json.dumps({"text": ANOMALOUS}), "-H", "content-type: application/json"]
    key = ["-H", f"Authorization: Bearer {address.key}"] if address.key else []
    command = ["curl", "-sS", "--noproxy", "*", f"{address.url}/v1/verdicts", *sent]
    answered = subprocess.run([*command, *key], capture_output=True, text=True, check=True).stdout
    assert json.loads(answered)["label"] == "anomalous"
    without = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert ("detail" in without) == bool(address.key)
