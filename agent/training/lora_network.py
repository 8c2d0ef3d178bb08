"""A language model in PyTorch, of which only the uppermost layers get an adapter (LoRA, Hu et al. 2021).

What the layers below them compute does not change, so it is computed once for each prompt and kept. The beginning that
all prompts share is computed once for each batch, and a gradient is taken at the last token only.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import MissingPart, UsageError
from llm.llamacpp.adapter import LowRank
from llm.llamacpp.chat_template import Prompt
from llm.llamacpp.gguf import Weights

# names of the matrices of a layer in GGUF files
_MATRICES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
    "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
}  # fmt: skip
_PERMUTED = ("q_proj", "k_proj")
ARCHITECTURES = ("llama", "qwen2")
# memory while weights are read, in bytes a parameter, and for the rest
_BYTES, _REST = 6, 1 << 30


@dataclass(frozen=True)
class LoraOptions:
    """How an adapter is trained.

    Parameters
    ----------
    base : str or None
        Folder or hub name of the weights; None for those of the embedded engine's file.
    layers : int
        Layers that get an adapter, from the top.
    rank : int
    epochs : int
        Passes over the cases.
    batch, rate, most_tokens
        Prompts in a step, learning rate, and tokens of a prompt above which a case is left out.
    device, offline
        See `agent.detectors.contrib.resources.Resources`.
    """

    base: str | None = None
    layers: int = 8
    rank: int = 8
    epochs: int = 3
    batch: int = 8
    rate: float = 2e-4
    most_tokens: int = 1024
    device: str = "cpu"
    offline: bool = False


class PrefixCache:
    """Keys and values of a prefix: recorded when it is computed, then continued by each row of a batch."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Any, Any]] = {}
        self.recording = True

    def update(self, keys: Any, values: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Called by an attention layer with what it computed, shape (batch, heads, tokens, width)."""
        import torch

        if self.recording:
            self._kept[layer] = keys, values
        if self.recording or layer not in self._kept:
            return keys, values
        before = (part.expand(len(keys), -1, -1, -1) for part in self._kept[layer])
        joined = [torch.cat(pair, dim=2) for pair in zip(before, (keys, values), strict=True)]
        return joined[0], joined[1]


class LoraNetwork:
    """A language model with an untrained adapter, which changes nothing yet.

    Parameters
    ----------
    weights : Weights
        The embedded engine's file.
    options : LoraOptions
    answers : sequence of str
        The two replies, the one that counts as positive first.

    Raises
    ------
    MissingPart
        The weights cannot be loaded, or there is not enough memory.
    UsageError
        The model has another architecture, or other sizes than the engine's.
    """

    def __init__(self, weights: Weights, options: LoraOptions, answers: Sequence[str]) -> None:
        import torch
        from peft import LoraConfig, get_peft_model

        if weights.architecture not in ARCHITECTURES:
            known = " or ".join(ARCHITECTURES)
            raise UsageError(f"{weights.path.name} is a model of the kind {weights.architecture}, not {known}")
        self._device = torch.device(options.device)
        dtype = _faster_type(options.device)
        model = _load(weights, options, dtype).to(self._device).eval()
        depth = int(model.config.num_hidden_layers)
        self.first = max(0, depth - options.layers)
        config = LoraConfig(
            r=options.rank,
            lora_alpha=2 * options.rank,
            target_modules=list(_MATRICES),
            layers_to_transform=list(range(self.first, depth)),
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            # of transformers, about what peft calls
            warnings.simplefilter("ignore", FutureWarning)
            self.model = get_peft_model(model, config)
        self._inner, self._head, self._config = model.model, model.lm_head, model.config
        self._scaling = config.lora_alpha / config.r
        self._architecture, self._depth = weights.architecture, depth
        self._answers = [torch.tensor(weights.tokens_beginning(answer), device=self._device) for answer in answers]

    @property
    def trainable(self) -> dict[str, Any]:
        """The adapter's parameters, by name."""
        return {name: each for name, each in self.model.named_parameters() if each.requires_grad}

    def lower(self, prompts: Sequence[Prompt], batch: int, done: Callable[[int], None]) -> tuple[Any, list[Any]]:
        """What the layers below the adapter compute.

        Parameters
        ----------
        prompts : sequence of Prompt
            With the same prefix.
        batch : int
        done : callable
            Takes how many prompts are computed.

        Returns
        -------
        tensor of shape (prefix tokens, width), and for each prompt one of shape (suffix tokens, width)
        """
        import torch

        below = range(self.first)
        rows: list[Any] = [None] * len(prompts)
        with torch.inference_mode():
            cache = PrefixCache()
            prefix = self._inner.embed_tokens(torch.tensor([prompts[0].prefix], device=self._device, dtype=torch.long))
            prefix = self._run(below, prefix, 0, cache)
            cache.recording = False
            order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].suffix))
            for start in range(0, len(order), batch):
                places = order[start : start + batch]
                hidden = self._inner.embed_tokens(self._padded([prompts[i].suffix for i in places]))
                hidden = self._run(below, hidden, prefix.shape[1], cache)
                for row, i in zip(hidden, places, strict=True):
                    rows[i] = row[: len(prompts[i].suffix)].clone()
                done(start + len(places))
        # tensors of inference mode cannot be trained on
        return prefix[0].clone(), [row.clone() for row in rows]

    def log_odds(self, prefix: Any, rows: Sequence[Any]) -> tuple[Any, Any]:
        """Log-odds of the first answer, and log-probabilities of both, shapes (n,) and (n, 2), with gradients.

        Parameters
        ----------
        prefix, rows
            As `lower` gives them.
        """
        import torch

        cache, above = PrefixCache(), range(self.first, self._depth)
        self._run(above, prefix[None], 0, cache)
        cache.recording = False
        lengths = torch.tensor([len(row) for row in rows], device=self._device)
        hidden = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        hidden = self._run(above, hidden, len(prefix), cache)
        last = hidden[torch.arange(len(rows), device=self._device), lengths - 1]
        logits = self._head(self._inner.norm(last)).float()
        total = torch.logsumexp(logits, dim=1)
        both = torch.stack([torch.logsumexp(logits[:, tokens], dim=1) - total for tokens in self._answers], dim=1)
        return both[:, 0] - both[:, 1], both

    def _run(self, layers: range, hidden: Any, start: int, cache: PrefixCache) -> Any:
        """Run layers on tokens at the places from ``start`` on; padding at the end needs no mask but the causal one."""
        import torch

        count = hidden.shape[1]
        if not count:
            return hidden
        places = torch.arange(start, start + count, device=hidden.device)
        mask = (torch.arange(start + count, device=hidden.device)[None] <= places[:, None])[None, None]
        rotary = self._inner.rotary_emb(hidden, places[None])
        for number in layers:
            hidden = self._inner.layers[number](
                hidden,
                attention_mask=mask,
                position_ids=places[None],
                past_key_values=cache,
                position_embeddings=rotary,
            )
        return hidden

    def _padded(self, rows: Sequence[Sequence[int]]) -> Any:
        import torch

        tokens = [torch.tensor(row, dtype=torch.long, device=self._device) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)

    def additions(self) -> dict[str, LowRank]:
        """The adapter as it is added to the matrices of a GGUF file."""
        found = {}
        for name, module in self.model.named_modules():
            if not hasattr(module, "lora_A") or "default" not in module.lora_A:
                continue
            *_, layer, _, kind = name.split(".")
            a = module.lora_A["default"].weight.detach().float().cpu().numpy()
            b = module.lora_B["default"].weight.detach().float().cpu().numpy() * self._scaling
            if kind in _PERMUTED and self._architecture == "llama":
                heads = self._config.num_attention_heads if kind == "q_proj" else self._config.num_key_value_heads
                b = _permuted(b, heads)
            found[f"blk.{layer}.{_MATRICES[kind]}.weight"] = LowRank(a, np.ascontiguousarray(b))
        return found

    @property
    def architecture(self) -> str:
        """As GGUF files name it."""
        return self._architecture


def _permuted(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of queries or keys in the order of llama.cpp, which rotates neighbouring dimensions of a llama's heads."""
    parts = rows.reshape(heads, 2, len(rows) // heads // 2, -1)
    return np.asarray(parts.swapaxes(1, 2).reshape(rows.shape))


def _faster_type(device: str) -> Any:
    """The type of numbers with which this machine multiplies matrices faster, of 32 bits or bfloat16."""
    import torch

    if device != "cpu":
        return torch.bfloat16 if device == "cuda" else torch.float32
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(256, 896, dtype=dtype), torch.ones(896, 896, dtype=dtype)
        times = []
        for _ in range(4):
            started = time.perf_counter()
            left @ right
            times.append(time.perf_counter() - started)
        seconds[dtype] = min(times)
    return min(seconds, key=lambda dtype: seconds[dtype])


def _load(weights: Weights, options: LoraOptions, dtype: Any) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    _check_memory(weights)
    where: dict[str, Any] = {"pretrained_model_name_or_path": options.base, "local_files_only": options.offline}
    if options.base is None:
        path = weights.path.resolve()
        where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name, "local_files_only": True}
    try:
        # the reader of GGUF files has a progress bar of its own
        with redirect_stderr(StringIO()):
            model = AutoModelForCausalLM.from_pretrained(dtype=dtype, **where)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise MissingPart(f"the weights of {options.base or weights.path} cannot be read: {error}") from error
    config = model.config
    sizes = (config.model_type, config.num_hidden_layers, config.hidden_size)
    expected = (weights.architecture, weights.layers, weights.lib.llama_model_n_embd(weights.model))
    if sizes != expected or config.vocab_size < weights.vocabulary_size:
        raise UsageError(
            f"--base {options.base}: a {sizes[0]} of {sizes[1]} layers and width {sizes[2]}; the judge's "
            f"{weights.path.name} is a {expected[0]} of {expected[1]} layers and width {expected[2]}"
        )
    for parameter in model.parameters():
        parameter.requires_grad = False
    return model


def _check_memory(weights: Weights) -> None:
    """Raise MissingPart if the weights do not fit into the memory that is free."""
    import psutil

    needed = _BYTES * int(weights.lib.llama_model_n_params(weights.model)) + _REST
    free = int(psutil.virtual_memory().available)
    if needed > free:
        raise MissingPart(
            f"training {weights.path.name} takes about {needed / 2**30:.1f} GB of memory, and {free / 2**30:.1f} GB "
            "are free"
        )
