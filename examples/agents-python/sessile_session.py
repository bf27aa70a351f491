"""A session of the OpenAI Agents SDK whose history lives on a sessile server."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any
from urllib.parse import quote

import httpx
from agents import SessionSettings, TResponseInputItem
from agents.memory import SessionABC

FIRST_PAUSE_S = 0.1
WORTH_ANOTHER_TRY = {429, 502, 503, 504}


class SessileError(Exception):
    """The server refused a call. `code` is stable, the message is for people."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class SessileSession(SessionABC):
    """The same id is the same history, in every process that names it."""

    def __init__(
        self,
        session_id: str,
        *,
        base_url: str = "http://127.0.0.1:8080",
        token: str | None = None,
        session_settings: SessionSettings | None = None,
        client: httpx.AsyncClient | None = None,
        attempts: int = 4,
    ) -> None:
        self.session_id = session_id
        self.session_settings = session_settings or SessionSettings()
        self._items = f"{base_url.rstrip('/')}/v1/sessions/{quote(session_id, safe='')}/items"
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._client = client or httpx.AsyncClient()
        self._owns_client = client is None
        self._attempts = attempts

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        if limit is None:
            limit = self.session_settings.limit
        query = "" if limit is None else f"?limit={limit}"
        return (await self._call("GET", query))["items"]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        if items:
            await self._call("POST", "", {"items": items})

    async def pop_item(self) -> TResponseInputItem | None:
        return (await self._call("POST", "/pop"))["item"]

    async def clear_session(self) -> None:
        await self._call("DELETE", "")

    async def replace_items(self, items: list[TResponseInputItem]) -> None:
        """In one step: readers see the old history or the new one."""
        await self._call("PUT", "", {"items": items})

    async def apply_transaction(self, operation_id: str, transaction: dict[str, Any]) -> bool:
        """Changes the history once, however often it is called; false says it was done before."""
        body = {"operationId": operation_id, "transaction": transaction}
        return (await self._call("POST", "/transactions", body))["applied"]

    async def aclose(self) -> None:
        if self._owns_client:
            await self._client.aclose()

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        # A lost answer leaves open whether the server did its work: every try carries the
        # key of the first, so that the work is done once.
        headers = dict(self._headers)
        if method != "GET":
            headers["idempotency-key"] = str(uuid.uuid4())
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                response = await self._client.request(
                    method, self._items + path, headers=headers, json=body
                )
            except httpx.TransportError:
                if last:
                    raise
            else:
                if response.is_success:
                    return response.json() if response.content else None
                if last or response.status_code not in WORTH_ANOTHER_TRY:
                    raise _problem(response)
            await asyncio.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))


def _problem(response: httpx.Response) -> SessileError:
    try:
        body = response.json()
    except ValueError:
        return SessileError(response.status_code, None, response.text[:200])
    error = body.get("error", body)
    if not isinstance(error, dict):
        return SessileError(response.status_code, None, str(error))
    message = error.get("message") or error.get("detail") or error.get("title") or response.text
    return SessileError(response.status_code, error.get("code"), message)
