"""Run by tests in a process of its own: fetch the tiny model into CACHE; die like a power cut after part DIE_AFTER."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import MappingProxyType

sys.path.insert(0, str(Path(__file__).parent))
import conftest

import llm.weights.resolver
from llm.weights.progress import DownloadProgress


class Deadly(DownloadProgress):
    def note(self, line: str) -> None:
        super().note(line)
        if line.startswith(f"part tiny-part{sys.argv[2]}="):
            os.kill(os.getpid(), signal.SIGKILL)


llm.weights.resolver.catalog = lambda: MappingProxyType({"tiny": conftest.tiny_entry()})
print(llm.weights.resolver.resolve("tiny", cache=Path(sys.argv[1]), progress=Deadly).path)
