"""The batcher is tested through the application: the fixtures of its tests."""

from tests.server.conftest import _event_of_no_loop, client, copy_of, learned

__all__ = ["_event_of_no_loop", "client", "copy_of", "learned"]
