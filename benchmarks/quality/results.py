"""What was measured, kept as one JSON file a task, so that a run can be resumed and its table drawn again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.quality.figures import Figures

_ROOT = Path(__file__).resolve().parents[2]
_MEASURED = ("agent", "llm", "retrieval", "prompts", "benchmarks/quality", "benchmarks/bgl.py")
_SHOWN = ("table.py", "reach.py", "results.py", "__main__.py")


@dataclass
class Result:
    """The figures of a task's draws by seed, and what they were made with; ``code`` names the state of the code."""

    task: str
    model: str
    limit: int | None
    code: str
    runs: dict[str, Figures] = field(default_factory=dict)

    def keep(self, folder: Path) -> None:
        """Write it whole or not at all."""
        path = folder / f"{self.task}.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        new.replace(path)

    def like(self, other: Result) -> bool:
        """Whether both were made with the same: only then may one be carried on as the other."""
        return (self.model, self.limit, self.code) == (other.model, other.limit, other.code)


def kept(folder: Path, task: str) -> Result | None:
    """What was measured of a task before."""
    path = folder / f"{task}.json"
    return Result(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def code() -> str:
    """Names the state of what is measured and of how: the beginning of a SHA-256 over the files."""
    digest = hashlib.sha256()
    for name in _MEASURED:
        top = _ROOT / name
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.suffix in (".py", ".j2", ".toml") and path.name not in _SHOWN:
                digest.update(f"{path.relative_to(_ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
