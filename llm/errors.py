"""Errors of language models; the agent's entry points translate them into its own."""


class ModelFailure(RuntimeError):
    """The model cannot be had or did not answer; the message says why and what to do."""


class HashMismatch(ModelFailure):
    """A model file is not the file it is said to be; it is never loaded."""


class EngineBusy(RuntimeError):
    """The engine's queue is full."""
