"""Errors of the casebook and its index; the agent's entry points translate them into its own."""


class RetrievalError(RuntimeError):
    """Root of these errors; ``hint`` is the command that helps, which only the command line shows."""

    def __init__(self, message: str = "", hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class EmbedderMissing(RetrievalError):
    """The embedding model is not on this machine or cannot be loaded."""


class EmbedderMismatch(RetrievalError):
    """The vectors of a source were made by another embedding model."""


class StoreFailure(RetrievalError):
    """The relational store or the vector index failed; libraries' errors become this where the library is called."""


class NotWritable(StoreFailure):
    """A full disk, or a read-only file or folder: reads go on, and writes do as soon as somebody changes that."""
