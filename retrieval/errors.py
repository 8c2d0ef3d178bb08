"""Errors of the casebook and its index; the agent's entry points translate them into its own."""


class EmbedderMissing(RuntimeError):
    """The embedding model is not on this machine or cannot be loaded."""


class EmbedderMismatch(RuntimeError):
    """The vectors of a source were made by another embedding model."""


class StoreFailure(RuntimeError):
    """The relational store or the vector index failed; libraries' errors become this where the library is called."""
