"""The low-rank adapter (LoRA) that `precedent tune lora` has trained for a source's language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.core.prompts import PromptVariant

FOLDER, GGUF = "lora", "adapter.gguf"


@dataclass(frozen=True)
class SourceAdapter:
    """An adapter, as the fit of a source names it; its files are in the source's folder.

    Attributes
    ----------
    sha256 : str
        Of the GGUF file.
    weights_sha256 : str
        Of the model's weights that it is added to.
    prompt : PromptVariant
        The prompt that it was trained with.
    held_out : frozenset of str
        Keys of the cases that it was measured with. They were kept from its training, and where there are kinds, all
        others of their kinds too.
    """

    sha256: str
    weights_sha256: str
    prompt: PromptVariant
    held_out: frozenset[str]

    @classmethod
    def of(cls, source_model: Mapping[str, Any] | None) -> SourceAdapter | None:
        """The adapter that a stored `agent.scoring.fusion.SourceModel` names; None if there is none."""
        stored = (source_model or {}).get("adapter")
        if stored is None:
            return None
        prompt = PromptVariant.from_json(stored["prompt"])
        return cls(**{**stored, "prompt": prompt, "held_out": frozenset(stored["held_out"])})

    def to_json(self) -> dict[str, Any]:
        """The adapter as plain values, see `of`."""
        return {**asdict(self), "held_out": sorted(self.held_out)}

    def file(self, detectors: Path) -> Path:
        """Its GGUF file, in a source's folder of detectors."""
        return detectors / FOLDER / self.sha256[:16] / GGUF
