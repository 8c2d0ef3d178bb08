"""The fixtures of `tests.served`."""

from tests.served import client, copy_of, event_of_no_loop, learned

__all__ = ["client", "copy_of", "event_of_no_loop", "learned"]
