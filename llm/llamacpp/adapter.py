"""Low-rank adapters (LoRA, Hu et al. 2021) as GGUF files, which llama.cpp and Ollama add to a model's weights."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Of models whose last feed-forward layer is gated by SiLU, and which Ollama runs by llama.cpp: its own engine has no
# adapters.
ARCHITECTURES = ("llama", "phi3", "qwen2")
Floats32 = NDArray[np.float32]
_VERSION, _ALIGNMENT = 3, 32
# types of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_FLOAT32, _STRING, _F32_TENSOR = 6, 8, 0


@dataclass(frozen=True)
class RankOne:
    """An addition ``outer(output, input)`` to a weight matrix.

    Attributes
    ----------
    input : shape (columns,)
    output : shape (rows,)
    """

    input: Floats32
    output: Floats32


def adapter_file(architecture: str, additions: Mapping[str, RankOne]) -> bytes:
    """The contents of an adapter's file.

    Parameters
    ----------
    architecture : str
        Of the model, as its file names it.
    additions : mapping
        By the name of the weight matrix, such as ``blk.23.ffn_down.weight``.
    """
    texts = {"general.type": "adapter", "general.architecture": architecture, "adapter.type": "lora"}
    head = [_text(key) + struct.pack("<I", _STRING) + _text(value) for key, value in texts.items()]
    # the additions are scaled by alpha / rank
    head.append(_text("adapter.lora.alpha") + struct.pack("<If", _FLOAT32, 1.0))
    tensors: list[tuple[str, tuple[int, int], Floats32]] = []
    for name, addition in additions.items():
        tensors.append((f"{name}.lora_a", (len(addition.input), 1), addition.input))
        tensors.append((f"{name}.lora_b", (1, len(addition.output)), addition.output))
    infos, data = b"", b""
    for name, shape, values in tensors:
        infos += _text(name) + struct.pack("<IQQIQ", 2, *shape, _F32_TENSOR, len(data))
        data += _padded(values.astype("<f4").tobytes())
    counts = struct.pack("<IQQ", _VERSION, len(tensors), len(head))
    return _padded(b"GGUF" + counts + b"".join(head) + infos) + data


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % _ALIGNMENT)
