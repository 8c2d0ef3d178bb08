"""One training of a sequence classifier with transformers' Trainer: class weights, early stopping, checkpoints."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import MissingPart, Stopped, UsageError
from agent.detectors.contrib.outlier_model import seeded
from agent.detectors.contrib.resources import chosen_device
from agent.training.kinds import stratified_folds

_SEED, _WARMUP = 20_26, 0.06
# steps after which a checkpoint is written and the held-out loss is measured, at most
_CHECKPOINT_STEPS = 200
_LABELS = {0: "normal", 1: "anomalous"}
Steps = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainerOptions:
    """How a classifier is trained.

    Parameters
    ----------
    base : str
        Path or hub name of the model to begin with.
    freeze : int
        Layers from the bottom that keep their weights, and the embeddings with them; 0 trains all.
    epochs : int
        Passes over the cases at most.
    patience : int
        Measurements of the held-out loss without a better one after which training stops.
    batch, rate, max_tokens
        Texts in a step, learning rate, and tokens of a text that are read.
    device, offline
        See `agent.detectors.contrib.resources.Resources`.
    """

    base: str
    freeze: int = 0
    epochs: int = 3
    patience: int = 3
    batch: int = 16
    rate: float = 5e-5
    max_tokens: int = 256
    device: str = "auto"
    offline: bool = False


@contextmanager
def _seeded_torch() -> Iterator[None]:
    import torch

    with seeded(), torch.random.fork_rng():
        torch.manual_seed(_SEED)
        yield


@_seeded_torch()
def train(
    texts: Sequence[str],
    anomalous: NDArray[np.bool_],
    options: TrainerOptions,
    folder: Path,
    steps: Steps,
    *,
    resume: bool,
) -> tuple[Any, Any]:
    """Train on n texts with their labels; a tenth of them is held out to choose the best checkpoint.

    Parameters
    ----------
    folder : Path
        Where checkpoints are written.
    steps : callable
        Takes the steps done and their total.
    resume : bool
        Whether to go on from the last checkpoint in the folder.

    Returns
    -------
    model, tokenizer

    Raises
    ------
    MissingPart
        accelerate is not installed, or the base model cannot be loaded.
    Stopped
        Ctrl-C was pressed; the last state is in a checkpoint.
    """
    from transformers import DataCollatorWithPadding, EarlyStoppingCallback, PrinterCallback, Trainer

    model, tokenizer = _load(options)
    # what is longer than the base model reads would be an error
    reads = getattr(model.config, "max_position_embeddings", options.max_tokens)
    encoded = tokenizer(list(texts), truncation=True, max_length=min(options.max_tokens, reads), verbose=False)
    rows = [
        {**{name: values[i] for name, values in encoded.items()}, "labels": int(label)}
        for i, label in enumerate(anomalous.tolist())
    ]
    held_out = stratified_folds(anomalous, 10, _SEED) == 0
    per_epoch = -(-int((~held_out).sum()) // options.batch)
    arguments = _arguments(options, folder, per_epoch)
    interrupt = Interrupt()
    trainer = Trainer(
        model,
        arguments,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=_Rows([row for row, out in zip(rows, held_out, strict=True) if not out]),
        eval_dataset=_Rows([row for row, out in zip(rows, held_out, strict=True) if out]),
        compute_loss_func=_weighted_loss(anomalous),
        callbacks=[EarlyStoppingCallback(options.patience), _watching(interrupt, steps)],
    )
    # which prints every measurement
    trainer.remove_callback(PrinterCallback)
    last = _last_checkpoint(folder) if resume and folder.is_dir() else None
    with interrupt.catching():
        trainer.train(resume_from_checkpoint=last)
    if interrupt.pressed:
        raise Stopped("stopped; the last checkpoint is kept")
    return trainer.model, tokenizer


def _last_checkpoint(folder: Path) -> str | None:
    """The last whole checkpoint, if there is one; those that a killed run did not finish are deleted."""
    from transformers.trainer_utils import get_last_checkpoint

    for checkpoint in folder.glob("checkpoint-*"):
        try:
            # the trainer writes it last
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
    last: str | None = get_last_checkpoint(str(folder))  # type: ignore[no-untyped-call]
    return last


def _arguments(options: TrainerOptions, folder: Path, per_epoch: int) -> Any:
    """The trainer's arguments; an epoch has so many steps."""
    from transformers import TrainingArguments

    every = max(1, min(per_epoch, _CHECKPOINT_STEPS))
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=2 * options.batch,
        learning_rate=options.rate,
        warmup_steps=int(_WARMUP * per_epoch * options.epochs),
        eval_strategy="steps",
        save_strategy="steps",
        logging_strategy="no",
        eval_steps=every,
        save_steps=every,
        # with 1, the end of a stopped training removes all but the best
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        disable_tqdm=True,
        report_to="none",
        seed=_SEED,
        use_cpu=chosen_device(options.device) == "cpu",
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )


def _load(options: TrainerOptions) -> tuple[Any, Any]:
    """The base model with a new head for two labels, and its tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(options.base, local_files_only=options.offline)
        model = AutoModelForSequenceClassification.from_pretrained(
            options.base,
            num_labels=2,
            id2label=_LABELS,
            label2id={name: number for number, name in _LABELS.items()},
            ignore_mismatched_sizes=True,
            local_files_only=options.offline,
        )
    except (OSError, ValueError) as error:
        raise MissingPart(f"the base model {options.base!r} cannot be loaded: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    _freeze(model, options.freeze)
    return model.float(), tokenizer


def _freeze(model: Any, layers: int) -> None:
    """Keep the weights of the embeddings and of the first ``layers``.

    Raises
    ------
    UsageError
        The model has fewer layers.
    """
    import torch

    if not layers:
        return
    depth = getattr(model.config, "num_hidden_layers", getattr(model.config, "n_layers", 0))
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == depth]
    if not stacks or layers > depth:
        raise UsageError(f"--freeze {layers}: the base model has {depth} layers")
    for module in (model.get_input_embeddings(), *stacks[0][:layers]):
        for weights in module.parameters():
            weights.requires_grad = False


def _weighted_loss(anomalous: NDArray[np.bool_]) -> Callable[..., Any]:
    """Cross entropy in which both labels weigh alike, however many cases each has."""
    share = float(np.mean(anomalous))

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        import torch

        logits = outputs["logits"] if isinstance(outputs, dict) else outputs.logits
        weights = torch.tensor([0.5 / (1 - share), 0.5 / share], dtype=logits.dtype, device=logits.device)
        each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        # not divided by the weights of the batch, which differ from batch to batch
        return (each * weights[labels]).mean()

    return loss


class _Rows:
    """Tokenised texts as PyTorch's map-style data set."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]


class Interrupt:
    """The first Ctrl-C while training asks for a checkpoint and the end; the second ends at once."""

    pressed = False

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Catch SIGINT, where that is possible: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def press(number: int, frame: Any) -> None:
            if self.pressed:
                raise KeyboardInterrupt
            self.pressed = True

        before = signal.signal(signal.SIGINT, press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _watching(interrupt: Interrupt, steps: Steps) -> Any:
    """A callback of the trainer that reports its steps, and ends it with a checkpoint after Ctrl-C."""
    from transformers import TrainerCallback

    class Watching(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> Any:
            steps(state.global_step, state.max_steps)
            if interrupt.pressed:
                control.should_save = control.should_training_stop = True
            return control

    return Watching()
