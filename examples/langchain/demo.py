"""A chain with a memory. Start it again and it knows what was said before."""

import os
import sys

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from sessile_history import SessileChatMessageHistory

# Put a chat model of yours here; this stand-in counts what it was given.
model = RunnableLambda(lambda messages: AIMessage(f"I was given {len(messages)} messages."))


def history(session_id: str) -> SessileChatMessageHistory:
    base_url = os.environ.get("SESSILE_URL", "http://127.0.0.1:8080")
    return SessileChatMessageHistory(session_id, base_url=base_url)


chain = RunnableWithMessageHistory(model, history)
session_id = sys.argv[1] if len(sys.argv) > 1 else "langchain-demo"
for question in ("Which city is the Prater in?", "Which river runs through it?"):
    answer = chain.invoke(question, {"configurable": {"session_id": session_id}})
    print(f"{question}\n  {answer.content}")
