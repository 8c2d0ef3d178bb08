"""`--via-server`: records are judged by a server that runs already, with its models in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from agent.cli.options import print_status
from agent.core.errors import MissingPart, UsageError
from agent.core.instance import announced_url, identity
from agent.core.records import JudgeError, Verdict, as_result
from agent.core.requests import JudgeRequest
from agent.pipeline.history_writing import keep_verdicts

if TYPE_CHECKING:
    import httpx

    from agent.pipeline.context import AppContext
    from agent.pipeline.pipeline import Pipeline

_CONNECT_SECONDS = 2.0
_STOPS = "the server stops: "
# of the key: none or a wrong one, one of another role, one that calls too often
_REFUSALS = (401, 403, 429)


class _ServerEnded(Exception):
    """The server stops, or did not answer all records."""


class _ServerRefused(Exception):
    """The server judges no records of ours: a key of another role, too many requests, …; the reason is its own."""


def check_via_server(via: str, others: Sequence[str]) -> str:
    """The option's value; ``others``: the options, or what else of the command only this process can do.

    Raises
    ------
    UsageError
        It is no address, or an address beside such options.
    """
    if via not in ("auto", "never") and not via.startswith(("http://", "https://")):
        raise UsageError(f"--via-server {via}: use auto, never, or an address such as http://127.0.0.1:8000")
    if not others:
        return via
    if via not in ("auto", "never"):
        raise UsageError(f"--via-server {via}: a server judges few records one by one, not with {', '.join(others)}")
    return "never"


def open_judge(context: AppContext, via: str) -> Pipeline | ServerJudge:
    """What judges the records: this process, or the server that the option names or that was found.

    Raises
    ------
    MissingPart
        The server of that address does not answer, or is not ready.
    """
    # bulk runs, which check their options here, need no pipeline where all verdicts are stored
    from agent.pipeline.pipeline import Pipeline

    local = Pipeline(context)
    url = announced_url(context.settings.home) if via == "auto" else via
    if via == "never" or url is None:
        return local
    import httpx

    key, seconds = context.settings.api_key, context.settings.request_timeout
    client = httpx.Client(
        base_url=url.rstrip("/"),
        headers={"authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(seconds, connect=_CONNECT_SECONDS),
        trust_env=via != "auto",
    )
    try:
        health = client.get("/healthz", timeout=_CONNECT_SECONDS).raise_for_status().json()
        client.get("/readyz", timeout=_CONNECT_SECONDS).raise_for_status()
    except (httpx.HTTPError, ValueError) as error:
        if via == "auto":
            return local
        raise MissingPart(f"the server {url} cannot judge: {error}") from error
    if via == "auto" and health.get("identity") != identity(context.settings):
        print_status(f"the server {url} has another version or other settings: records are judged here")
        return local
    if via == "auto":
        print_status(f"records are judged by the server {url}")
    return ServerJudge(client, local, context, go_on=via == "auto")


class ServerJudge:
    """Judges by a server; its verdicts are in the history already.

    Parameters
    ----------
    go_on
        Whether this process judges the rest when the server ends.
    """

    def __init__(self, client: httpx.Client, local: Pipeline, context: AppContext, *, go_on: bool) -> None:
        self._client: httpx.Client | None = client
        self._local, self._context, self._go_on = local, context, go_on

    def batch_as_completed(
        self, inputs: Sequence[JudgeRequest], *, return_exceptions: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """Verdicts with their places, in the order of ``inputs``, each as soon as it is known."""
        import httpx

        done = 0
        if self._client is not None:
            try:
                for answer in self._answers(self._client, inputs):
                    yield done, answer
                    done += 1
            except _ServerRefused as error:
                url, self._client = self._client.base_url, None
                if not self._go_on:
                    raise MissingPart(f"the server {url} refused the records: {error}") from error
                print_status(f"the server {url} refused the records, they are judged here: {error}")
            except (httpx.HTTPError, _ServerEnded) as error:
                url, self._client = self._client.base_url, None
                if not self._go_on:
                    reason = f"the server {url} has ended, the other records were not judged: {error}"
                    raise MissingPart(reason) from error
                print_status(f"the server {url} has ended: the other records are judged here")
        rest = inputs[done:]
        for place, outcome in self._local.batch_as_completed(rest, return_exceptions=return_exceptions):
            if isinstance(result := as_result(rest[place].record, outcome), Verdict):
                outcome = keep_verdicts(self._context.history, [result])[0]
            yield done + place, outcome

    def _answers(self, client: httpx.Client, inputs: Sequence[JudgeRequest]) -> Iterator[Verdict | JudgeError]:
        lines = "".join(request.model_dump_json(exclude_defaults=True) + "\n" for request in inputs)
        headers, answered = {"content-type": "application/x-ndjson"}, 0
        with client.stream("POST", "/v1/verdicts", content=lines.encode(), headers=headers) as response:
            if response.status_code in _REFUSALS:
                raise _ServerRefused(json.loads(response.read())["detail"])
            response.raise_for_status()
            for request, line in zip(inputs, response.iter_lines(), strict=False):
                body = json.loads(line)
                if error := body.get("error"):
                    if error.startswith(_STOPS):
                        raise _ServerEnded(error)
                    yield JudgeError(request.record, error.removeprefix(f"line {answered + 1}: "))
                else:
                    # what is not part of the JSON is in the history, which both have
                    yield Verdict.model_validate(self._context.history.get(body["id"]) or body)
                answered += 1
        if answered < len(inputs):
            raise _ServerEnded("it did not answer all records")
