"""The message history of a LangChain chain, kept on a sessile server."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

FIRST_PAUSE_S = 0.1
WORTH_ANOTHER_TRY = {429, 502, 503, 504}


class SessileChatMessageHistory(BaseChatMessageHistory):
    """Messages go in and come out as LangChain made them: tool calls, metadata and all."""

    def __init__(
        self,
        session_id: str,
        *,
        base_url: str = "http://127.0.0.1:8080",
        token: str | None = None,
        limit: int | None = None,
        client: httpx.Client | None = None,
        attempts: int = 4,
    ) -> None:
        self.session_id = session_id
        self._items = f"{base_url.rstrip('/')}/v1/sessions/{quote(session_id, safe='')}/items"
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._limit = limit
        self._client = client or httpx.Client()
        self._attempts = attempts

    @property
    def messages(self) -> list[BaseMessage]:
        """The latest `limit` messages, or all; oldest first."""
        query = "" if self._limit is None else f"?limit={self._limit}"
        return messages_from_dict(self._call("GET", query)["items"])

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        if messages:
            self._call("POST", "", {"items": [message_to_dict(message) for message in messages]})

    def clear(self) -> None:
        self._call("DELETE", "")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        # A lost answer leaves open whether the server did its work: every try carries the
        # key of the first, so that the work is done once.
        headers = dict(self._headers)
        if method != "GET":
            headers["idempotency-key"] = str(uuid.uuid4())
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                response = self._client.request(
                    method, self._items + path, headers=headers, json=body
                )
            except httpx.TransportError:
                if last:
                    raise
            else:
                if last or response.status_code not in WORTH_ANOTHER_TRY:
                    response.raise_for_status()
                    return response.json() if response.content else None
            time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
