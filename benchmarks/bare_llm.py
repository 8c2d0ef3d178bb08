"""What llama.cpp alone takes for the prompts of verdicts: a context of its own on the same weights.

`python -m benchmarks.bare_llm HOME SOURCE VERDICTS` prints, for the verdicts of a file (JSON lines) for which the
language model was queried, how many they are, their new tokens, and the seconds of decoding these.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from agent.core.prompts import PromptVariant
from agent.core.records import Record
from agent.core.settings import settings
from agent.detectors.language import NearCase, build_messages, examples_for
from agent.pipeline.context import AppContext
from agent.scoring.fusion import SourceModel
from llm.llamacpp.backend import LlamaCppBackend
from llm.llamacpp.chat_template import Prompt
from llm.llamacpp.engine import Engine
from retrieval.encoding.representation import Representation


class BareEngine:
    """Decodes the prompts of one source's verdicts, and nothing else."""

    def __init__(self, context: AppContext, source: str) -> None:
        chosen = context.language_detector().model
        assert isinstance(chosen, LlamaCppBackend)
        model = chosen.chat
        self._model, self._context, self._row = model, context, context.source(source)
        self._engine = Engine(model.weights, context_tokens=model.context_tokens, threads=model.threads)

    def decode(self, record: Record) -> tuple[float, int]:
        """Seconds for the question's tokens after the prefix, which is in the context already, and how many."""
        row = self._row
        name = self._context.language_detector().model.name
        way = SourceModel.of(row.source_model, row.counts).prompt_for(name) or PromptVariant()
        found = self._context.casebook.find(row.name, record, record.content_hash, self._context.settings.precedents)
        representation = row.representation or Representation()
        near = [NearCase(near.similarity, near.case.label, representation.masked(near.case)) for near in found.nearest]
        examples, masked = examples_for(near, way), representation.masked(record)
        prompt = self._model.prompt(build_messages(row.brief, masked, examples, way))
        self._engine.read(Prompt(prompt.prefix, prompt.suffix[:1]), lambda: False)
        started = time.perf_counter()
        self._engine.read(prompt, lambda: False)
        return time.perf_counter() - started, len(prompt.suffix)


def main() -> None:
    home, source, verdicts = sys.argv[1:]
    context = AppContext(settings().model_copy(update={"home": Path(home)}))
    judged = [json.loads(line) for line in Path(verdicts).read_text(encoding="utf-8").splitlines()]
    queried = [
        Record.model_validate(verdict["record"]) for verdict in judged if verdict["signals"]["language"] is not None
    ]
    bare = BareEngine(context, source)
    seconds, tokens = zip(*(bare.decode(record) for record in queried), strict=True)
    context.close()
    print(json.dumps({"queried": len(queried), "tokens": sum(tokens), "seconds": sum(seconds)}))


if __name__ == "__main__":
    main()
