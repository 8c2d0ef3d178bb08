"""Training an adapter on prompts and labels, with checkpoints from which a stopped training goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent.core.errors import Stopped
from agent.core.progress import Progress
from agent.core.terminal import plural
from agent.training.lora_network import LoraNetwork, LoraOptions
from agent.training.tune_trainer import Interrupt
from llm.llamacpp.chat_template import Prompt
from retrieval.arrays import Bools, Ints

_SEED, _WARMUP, _CLIP = 20_26, 0.06, 1.0
_CHECKPOINT, _CHECKPOINT_SECONDS = "checkpoint.safetensors", 30.0


@dataclass(frozen=True)
class LoraTraining:
    """One training.

    Parameters
    ----------
    network : LoraNetwork
    prompts : sequence of Prompt
        Of n cases, with one prefix.
    anomalous : shape (n,)
    options : LoraOptions
    folder : Path
        Where the checkpoint is written.
    progress, notify : callable
        Take the steps done, and notes for a person.
    """

    network: LoraNetwork
    prompts: Sequence[Prompt]
    anomalous: Bools
    options: LoraOptions
    folder: Path
    progress: Progress
    notify: Callable[[str], None]

    def run(self) -> int:
        """Train, from the checkpoint on if there is one; return the number of steps.

        Raises
        ------
        Stopped
            Ctrl-C was pressed; the last state is in the checkpoint.
        """
        import torch

        interrupt = Interrupt()
        with interrupt.catching(), torch.random.fork_rng():
            torch.manual_seed(_SEED)
            optimizer = torch.optim.AdamW(self.network.trainable.values(), lr=self.options.rate, weight_decay=0.0)
            steps = self._batches()
            done = self._restore(optimizer)
            prefix, rows = self._lower(interrupt) if done < len(steps) else (None, [])
            started = saved = time.perf_counter()
            for number in range(done, len(steps)):
                self._step(optimizer, prefix, rows, steps[number], number / len(steps))
                now = time.perf_counter()
                self.progress("training", number + 1, len(steps))
                more = len(steps) - number - 1
                if more and (number == done + 1 or (number + 1) % max(1, len(steps) // 4) == 0):
                    left = (now - started) / (number + 1 - done) * more
                    self.notify(f"training: {plural(more, 'more step')}, about {_minutes(left)} left")
                if interrupt.pressed or not more or now - saved > _CHECKPOINT_SECONDS:
                    self._save(optimizer, number + 1)
                    saved = now
                self._stop_if(interrupt)
        return len(steps)

    def _lower(self, interrupt: Interrupt) -> tuple[Any, list[Any]]:
        def done(count: int) -> None:
            self._stop_if(interrupt)
            self.progress("reading the cases", count, len(self.prompts))

        return self.network.lower(self.prompts, self.options.batch, done)

    def _stop_if(self, interrupt: Interrupt) -> None:
        if interrupt.pressed:
            raise Stopped("stopped; the last checkpoint is kept")

    def _batches(self) -> list[Ints]:
        """The places of the cases of each step, the same ones every time."""
        random = np.random.default_rng(_SEED)
        epochs = [random.permutation(len(self.prompts)) for _ in range(self.options.epochs)]
        return [
            order[start : start + self.options.batch]
            for order in epochs
            for start in range(0, len(order), self.options.batch)
        ]

    def _step(self, optimizer: Any, prefix: Any, rows: Sequence[Any], places: Ints, share_done: float) -> None:
        """One step; the loss is that of the answer's first token, and both labels weigh alike."""
        import torch

        _, both = self.network.log_odds(prefix, [rows[i] for i in places.tolist()])
        labels = torch.tensor(self.anomalous[places], device=both.device)
        share = float(np.mean(self.anomalous))
        weights = torch.where(labels, 0.5 / share, 0.5 / (1 - share))
        loss = -(weights * torch.where(labels, both[:, 0], both[:, 1])).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(self.network.trainable.values()), _CLIP)
        for group in optimizer.param_groups:
            group["lr"] = self.options.rate * min((share_done + 1e-3) / _WARMUP, 1 - share_done)
        optimizer.step()

    def _save(self, optimizer: Any, done: int) -> None:
        """Write the adapter, the optimizer's averages and the number of steps done."""
        from safetensors.torch import save_file

        tensors = {}
        for name, parameter in self.network.trainable.items():
            tensors[f"weight {name}"] = parameter.detach()
            for key, value in optimizer.state[parameter].items():
                tensors[f"{key} {name}"] = value
        draft = self.folder / f"{_CHECKPOINT}.new"
        save_file({name: each.contiguous().cpu() for name, each in tensors.items()}, draft, {"done": str(done)})
        draft.replace(self.folder / _CHECKPOINT)

    def _restore(self, optimizer: Any) -> int:
        """Read what `_save` wrote; returns the number of steps done."""
        import torch
        from safetensors import safe_open

        path = self.folder / _CHECKPOINT
        if not path.is_file():
            return 0
        with safe_open(path, framework="pt") as stored, torch.no_grad():
            for name in stored.keys():  # noqa: SIM118 - it is no mapping
                key, _, parameter = name.partition(" ")
                target = self.network.trainable[parameter]
                value = stored.get_tensor(name)
                if key == "weight":
                    target.copy_(value)
                else:
                    optimizer.state[target][key] = value.to(target.device) if key != "step" else value
            return int(stored.metadata()["done"])


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
