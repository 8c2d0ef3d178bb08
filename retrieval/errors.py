"""Errors of the casebook and its index; the agent's entry points translate them into its own."""


class EmbedderMissing(RuntimeError):
    """The embedding model is not on this machine; the message says how to get it."""


class EmbedderMismatch(RuntimeError):
    """The vectors of a source were made by another embedding model."""


class StoreFailure(RuntimeError):
    """The relational store or the vector index cannot be opened."""
