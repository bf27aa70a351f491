"""The messages of a conversation, kept on a sessile server, where a chat page sees them as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from sessile_items import Items

ROLES = {"human": "user", "ai": "assistant", "system": "system"}


class SessileHistory:
    """Messages go in and come out as LangChain made them: tool calls, metadata and all."""

    def __init__(self, session_id: str, *, limit: int | None = None, **options: Any) -> None:
        """`limit`: how many of the latest messages are read; `options`: those of `Items`."""
        self.session_id = session_id
        self._limit = limit
        self._items = Items(**options)

    @property
    def messages(self) -> list[BaseMessage]:
        """The latest `limit` messages, or all; oldest first."""
        items = self._items.read(self.session_id, self._limit)
        return messages_from_dict([item.get("langchain", item) for item in items])

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """All of them or none."""
        self._items.add(self.session_id, [_item(message) for message in messages])

    def clear(self) -> None:
        self._items.clear(self.session_id)

    async def aget_messages(self) -> list[BaseMessage]:
        return await asyncio.to_thread(lambda: self.messages)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        await asyncio.to_thread(self.add_messages, messages)

    async def aclear(self) -> None:
        await asyncio.to_thread(self.clear)


def _item(message: BaseMessage) -> dict[str, Any]:
    # With a role and a text, the item is shown as a message to whoever follows the session.
    role = ROLES.get(message.type)
    shown = {"type": "message", "role": role, "content": message.text} if role and message.text else {}
    return {**shown, "langchain": message_to_dict(message)}
