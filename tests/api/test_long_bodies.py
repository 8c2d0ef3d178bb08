"""The bodies of all requests that a server holds in memory are bounded together."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack

import httpx
import pytest

from agent.core.settings import Settings
from tests.served import eventually, running
from tests.shop import NORMAL

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
_LONGEST = 128 * 1024


def test_a_long_body_is_refused_while_many_others_arrive(copy_of: Callable[..., Settings]) -> None:
    long = {"text": "x" * (_LONGEST - 100), "source": "shop"}
    with running(copy_of(model="none", max_body_bytes=_LONGEST)) as url:

        def post(body: dict[str, str]) -> httpx.Response:
            return httpx.post(f"{url}/v1/verdicts", json=body, timeout=60)

        assert eventually(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        # the record is too long, its body is not
        assert post(long).status_code == 422
        with ExitStack() as others:
            for _ in range(16):
                other = others.enter_context(socket.create_connection(("127.0.0.1", httpx.URL(url).port)))
                head = "POST /v1/verdicts HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                other.sendall(f"{head}Content-Length: {_LONGEST}\r\n\r\n".encode() + b" " * (_LONGEST - 1))
            assert eventually(lambda: post(long).status_code == 429)
            refused = post(long)
            assert (refused.headers["retry-after"], refused.json()["detail"]) == (
                "1",
                "too many long requests are being served: try again",
            )
            assert post({"text": NORMAL, "source": "shop"}).status_code == 200
        # what the others held is free again
        assert eventually(lambda: post(long).status_code == 422)
