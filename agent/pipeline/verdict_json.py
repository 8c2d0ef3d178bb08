"""A verdict as JSON that stands for other records as well, and is given about each of them without making it anew."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache

from agent.core.records import Verdict, verdict_id_of

_HOLES = "\x00id", "\x00record"
# as json.dumps does it without ASCII's limits, less what else that does at each call
_quoted = json.encoder.encode_basestring
_as_json = lru_cache(maxsize=1_024)(lambda said: json.dumps(said, ensure_ascii=False))


@dataclass(frozen=True)
class VerdictTemplate:
    """A verdict in three pieces of JSON: up to its id, up to its record, and the rest.

    ``alike``: what the history keeps of the verdict on another record (`retrieval.store.verdicts`), up to the record.
    """

    verdict: Verdict
    provenance: str
    pieces: tuple[bytes, bytes, bytes]
    alike: str

    @classmethod
    def of(cls, verdict: Verdict) -> VerdictTemplate:
        # how long a record of many took is not known
        body = {**verdict.model_dump(mode="json"), "id": _HOLES[0], "record": _HOLES[1], "elapsed_ms": 0.0}
        before, rest = json.dumps(body, ensure_ascii=False).split(json.dumps(_HOLES[0]), 1)
        between, after = rest.split(json.dumps(_HOLES[1]), 1)
        pieces = f'{before}"'.encode(), f'"{between}'.encode(), after.encode()
        # the history may have the verdict explained at more length meanwhile
        said = f'"elapsed_ms": 0.0, "explanation": {_quoted(verdict.explanation)}'
        alike = f'{{"like": "{verdict.id}", {said}, "record": '
        return cls(verdict, verdict.provenance.model_dump_json(), pieces, alike)

    def about(self, text: str, file: str | None, line: int | None, time: str | None = None) -> tuple[bytes, ...]:
        """The verdict on another record that it stands for, in five pieces: second its id, fourth its record.

        ``text`` is without lone surrogates and NUL.
        """
        if self.verdict.record.fields:
            update = {"text": text, "file": file, "line": line, "time": time}
            own = self.verdict.record.model_copy(update=update)
            told, content = json.dumps(own.model_dump(mode="json"), ensure_ascii=False), own.content_hash
        else:
            said = _quoted(text)
            place = f'"file": {_as_json(file)}, "line": {"null" if line is None else line}, "time": {_as_json(time)}'
            told = f'{{"text": {said}, "fields": {{}}, {place}}}'
            content = hashlib.sha256(f"[{said}, {{}}, []]".encode()).hexdigest()
        name = verdict_id_of(self.verdict.source, file, line, content, self.provenance)
        before, between, after = self.pieces
        return before, name.encode(), between, told.encode(), after
