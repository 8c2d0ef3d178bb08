"""Objects of an S3 store, played by a small fake, are read as the files with the same bytes are."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import pytest

from agent.core.errors import InputError, MissingPart
from agent.data.inputs import expand_inputs
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.data.readers.byte_stream import opened
from tests.conftest import missing
from tests.llm.loopback import serving

LOG = "".join(f"line {number} of the log\n" for number in range(300_000)).encode()
OBJECTS = {
    "logs/a.log": LOG,
    "logs/deep/b.log.gz": gzip.compress(b"one\ntwo\n"),
    "logs/empty": b"",
    "t.csv": b"a,b\n1,2\n",
}
_LISTED = '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>'


def answer(handler: BaseHTTPRequestHandler) -> None:
    """What S3 answers to HEAD and GET of objects, and to lists of them."""
    url = urlsplit(handler.path)
    key = url.path.removeprefix("/bucket").lstrip("/")
    query = parse_qs(url.query)
    status, body, headers = 404, b"", {}
    if key == "denied":
        status = 403
    elif "list-type" in query or url.path.rstrip("/") == "/bucket":
        prefix = query.get("prefix", [""])[0]
        found = [
            f"<Contents><Key>{k}</Key><Size>{len(v)}</Size></Contents>"
            for k, v in OBJECTS.items()
            if k.startswith(prefix)
        ]
        status, body = 200, _LISTED.format("".join(found) + f"<KeyCount>{len(found)}</KeyCount>").encode()
    elif key in OBJECTS:
        status, body = 200, OBJECTS[key]
        if wanted := handler.headers.get("Range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            status, body = 206, body[int(first) : int(last) + 1]
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if importlib.util.find_spec("pyarrow") is None:
        missing("ray", "pyarrow is not installed: make extras")
    with serving(answer) as address:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{address}",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.extras
@pytest.mark.network
@pytest.mark.enable_socket
def test_objects_and_folders_of_them_are_read(bucket: None) -> None:
    left_out: list[str] = []
    files = expand_inputs(["s3://bucket/logs", "s3://bucket/t.csv"], "auto", left_out.append)
    assert files == ["s3://bucket/logs/a.log", "s3://bucket/logs/deep/b.log.gz", "s3://bucket/t.csv"]
    assert len(left_out) == 1
    assert "s3://bucket/logs/empty" in left_out[0]
    with opened(files[0]) as stream:
        assert b"".join(stream) == LOG
    rows = list(ReadOptions(format="log").read(files[1], 65_536))
    assert [(row.record.text, row.record.file) for row in rows if isinstance(row, ParsedRow)] == [
        ("one", files[1]),
        ("two", files[1]),
    ]


@pytest.mark.extras
@pytest.mark.network
@pytest.mark.enable_socket
@pytest.mark.parametrize(
    ("name", "said"),
    [("s3://bucket/none.log", "no such object"), ("s3://bucket/denied", "cannot be read"), ("s3://", "cannot be read")],
)
def test_what_cannot_be_read_is_an_error(bucket: None, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        expand_inputs([name], "auto", print)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.data.object_store.find_spec", lambda _: None)
    with pytest.raises(MissingPart, match=r"s3://bucket/a: reading s3:// needs the package pyarrow") as error:
        expand_inputs(["s3://bucket/a"], "auto", print)
    assert "precedent-agent[ray]" in str(error.value.hint)
