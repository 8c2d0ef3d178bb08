"""What a message is understood to ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Action:
    """A tool's name and its arguments."""

    tool: str
    arguments: dict[str, Any] = field(default_factory=dict)
