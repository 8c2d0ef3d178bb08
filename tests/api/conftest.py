"""The fixtures of `tests.served`."""

from tests.served import address, client, copy_of, event_of_no_loop, learned

__all__ = ["address", "client", "copy_of", "event_of_no_loop", "learned"]
