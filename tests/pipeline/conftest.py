"""The batcher is tested through the application: the fixtures of its tests."""

from tests.served import client, copy_of, event_of_no_loop, learned

__all__ = ["client", "copy_of", "event_of_no_loop", "learned"]
