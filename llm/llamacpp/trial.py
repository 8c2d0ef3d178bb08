"""Whether llama.cpp can run a file, found out in a process of its own: some damaged files end the process they are in.

``python -m llm.llamacpp.trial FILE`` loads a model, reads its chat template and decodes a few tokens.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from llm.errors import ModelFailure
from llm.weights.catalog import catalog

# far more than the largest model takes to be read from a slow disk
_SECONDS = 1_800
_REFUSED = 3
_TEXT = "is this record normal or anomalous?"


def try_out(path: Path, sha256: str, cache: Path, seconds: float = _SECONDS) -> None:
    """Load a file that is not of the catalog in a process of its own, once; what was found is kept in ``cache``.

    Parameters
    ----------
    path : Path
        The .gguf file.
    sha256 : str
        Of its content.
    cache : Path
        The folder for downloaded models.
    seconds : float
        How long that may take.

    Raises
    ------
    ModelFailure
        llama.cpp refuses the file, or the process ended or hung.
    """
    if any(file.sha256 == sha256 for entry in catalog().values() for file in entry.files):
        return
    # another llama.cpp may refuse what this one loads
    note, by = cache / "verified" / f"{sha256}.runs", f"llama-cpp-python {version('llama-cpp-python')}"
    if note.exists() and note.read_bytes() == by.encode():
        return
    _run(path, seconds)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(by, encoding="utf-8")


def _run(path: Path, seconds: float) -> None:
    # without -P the working directory could hold another package of this name
    command = [sys.executable, "-P", "-m", "llm.llamacpp.trial", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise _failure(path, f"llama.cpp was not done with it after {seconds:g} s") from error
    if done.returncode == _REFUSED:
        raise _failure(path, _cause(done.stderr))
    if done.returncode:
        why = f"it ends the process that loads it ({_end(done.returncode)}) {_cause(done.stderr)}"
        raise _failure(path, why.strip())


def _cause(stderr: str) -> str:
    """The first message of llama.cpp about a failure, without the place in its code; else the last line."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    for line in lines:
        if "GGML_ASSERT" in line:
            return line[line.index("GGML_ASSERT") :]
        if line.startswith("gguf_init") or "error loading model" in line:
            return line.partition(": ")[2]
    return lines[-1] if lines else ""


def _end(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _failure(path: Path, why: str) -> ModelFailure:
    return ModelFailure(
        f"{path} is not loaded: {why}. It is damaged or incomplete, or of a kind that this llama.cpp does not run: "
        "compare its SHA-256 with the publisher's"
    )


def main(path: Path) -> int:
    """Load a file and run it; the exit code, after the reason on stderr."""
    from langchain_core.messages import HumanMessage

    from llm.llamacpp.chat_template import ChatTemplate
    from llm.llamacpp.engine import Engine
    from llm.llamacpp.gguf import Weights

    # this package numbers the levels of llama.cpp's messages otherwise: errors are among the lowest
    logging.getLogger("llama-cpp-python").setLevel(logging.DEBUG)
    try:
        weights = Weights(path, gpu_layers=0)
        prompt = ChatTemplate(weights).prompt([HumanMessage(_TEXT)])
        engine = Engine(weights, context_tokens=len(prompt) + 1, threads=1)
        engine.read(prompt, lambda: False)
        engine.logits()
    except ModelFailure as error:
        print(error, file=sys.stderr)
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
