"""Stands in for a chat model of yours: it says how many messages reached it."""

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult


class Offline(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "offline"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        answer = AIMessage(f"I was given {len(messages)} messages.")
        return ChatResult(generations=[ChatGeneration(message=answer)])
