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
class LowRank:
    """An addition ``b @ a`` to a weight matrix.

    Attributes
    ----------
    a : shape (rank, columns)
    b : shape (rows, rank)
    """

    a: Floats32
    b: Floats32

    @classmethod
    def outer(cls, output: Floats32, input: Floats32) -> LowRank:
        """Of rank one, from vectors of shapes (rows,) and (columns,)."""
        return cls(input[None], output[:, None])


def adapter_file(architecture: str, additions: Mapping[str, LowRank]) -> bytes:
    """The contents of an adapter's file.

    Parameters
    ----------
    architecture : str
        Of the model, as its file names it.
    additions : mapping
        All of one rank, by the name of the weight matrix, such as ``blk.23.ffn_down.weight``.
    """
    texts = {"general.type": "adapter", "general.architecture": architecture, "adapter.type": "lora"}
    head = [_text(key) + struct.pack("<I", _STRING) + _text(value) for key, value in texts.items()]
    # the additions are scaled by alpha / rank: by 1
    rank = max((len(addition.a) for addition in additions.values()), default=1)
    head.append(_text("adapter.lora.alpha") + struct.pack("<If", _FLOAT32, rank))
    tensors: list[tuple[str, tuple[int, ...], Floats32]] = []
    for name, addition in additions.items():
        # the format counts the columns first
        tensors.append((f"{name}.lora_a", addition.a.shape[::-1], addition.a))
        tensors.append((f"{name}.lora_b", addition.b.shape[::-1], addition.b))
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
