"""Errors of the language model; the agent's entry points translate them into the product's errors.

::

    RuntimeError
    ├── ModelFailure            the model is missing or did not answer
    │   ├── HashMismatch        a model file has the wrong bytes
    │   ├── NoAnswer            none of the possible answers begins with a likely token
    │   └── NoLogProbabilities  the server returns no log-probabilities
    └── EngineBusy              the queue is full, try again later
"""


class ModelFailure(RuntimeError):
    """The model is missing or did not answer; ``hint`` is the command that helps, which only the command line shows."""

    def __init__(self, message: str = "", hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class HashMismatch(ModelFailure):
    """A model file does not have the expected SHA-256; it is never loaded."""


class NoAnswer(ModelFailure):
    """None of the possible answers begins with one of the likeliest first tokens; other prompts may get an answer."""


class NoLogProbabilities(ModelFailure):
    """The server is too old to return log-probabilities, or does not return them for this model."""


class EngineBusy(RuntimeError):
    """The engine's queue is full."""
