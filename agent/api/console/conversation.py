"""Which conversation with the agent a browser has: an id in a cookie, which ends with the browser's session."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

CHAT_COOKIE, CHAT_KEY = "precedent_chat", "precedent.chat"
_BYTES = 16
_ID = re.compile(r"[A-Za-z0-9_-]{22}")


def conversation_id(cookies: Mapping[str, str]) -> tuple[str, bool]:
    """The id of the browser's conversation, which nobody can guess, and whether it is a new one."""
    sent = cookies.get(CHAT_COOKIE, "")
    return (sent, False) if _ID.fullmatch(sent) else (secrets.token_urlsafe(_BYTES), True)


def cookie_of(conversation: str, *, secure: bool) -> str:
    """The header that gives a browser its conversation.

    It is sent along from links of other sites too, such as that of an alert: a page opened by one goes on with the
    conversation.
    """
    return f"{CHAT_COOKIE}={conversation}; Path=/; HttpOnly; SameSite=Lax{'; Secure' * secure}"
