"""The items of a session on a sessile server: an ordered list of JSON objects that is written exactly once."""

from __future__ import annotations

import time
import uuid
from typing import Any
from urllib.parse import quote

import httpx

FIRST_PAUSE_S = 0.1
WORTH_ANOTHER_TRY = {429, 502, 503, 504}


class Items:
    """Calls that are tried again where that helps."""

    def __init__(
        self,
        *,
        base_url: str = "http://127.0.0.1:8080",
        token: str | None = None,
        client: httpx.Client | None = None,
        attempts: int = 4,
    ) -> None:
        self._sessions = f"{base_url.rstrip('/')}/v1/sessions/"
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._client = client or httpx.Client()
        self._attempts = attempts

    def read(self, session_id: str, limit: int | None = None) -> list[Any]:
        """The latest `limit` items, or all; oldest first."""
        query = "" if limit is None else f"?limit={limit}"
        return self._call("GET", session_id, query)["items"]

    def add(self, session_id: str, items: list[Any]) -> None:
        """All of them or none; the session is made if it is new."""
        if items:
            self._call("POST", session_id, "", {"items": items})

    def clear(self, session_id: str) -> None:
        self._call("DELETE", session_id, "")

    def _call(self, method: str, session_id: str, query: str, body: Any = None) -> Any:
        # A lost answer leaves open whether the server did its work: every try carries the
        # key of the first, so that the work is done once.
        url = f"{self._sessions}{quote(session_id, safe='')}/items{query}"
        headers = dict(self._headers)
        if method != "GET":
            headers["idempotency-key"] = str(uuid.uuid4())
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                response = self._client.request(method, url, headers=headers, json=body)
            except httpx.TransportError:
                if last:
                    raise
            else:
                if last or response.status_code not in WORTH_ANOTHER_TRY:
                    response.raise_for_status()
                    return response.json() if response.content else None
            time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
