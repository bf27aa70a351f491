"""RunnableWithMessageHistory of LangChain with the history of examples/langchain."""

from __future__ import annotations

import sys
import threading
import warnings
from pathlib import Path

import httpx
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda

from scenarios import new_id, read_arguments, run, same

warnings.simplefilter("ignore")
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel  # noqa: E402
from langchain_core.runnables.history import RunnableWithMessageHistory  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "langchain"))
from sessile_history import SessileChatMessageHistory  # noqa: E402

BASE, ONLY = read_arguments()


def open_history(session_id: str | None = None, **options) -> SessileChatMessageHistory:
    return SessileChatMessageHistory(session_id or new_id(), base_url=BASE, **options)


def dumped(messages: list) -> list[dict]:
    return [message.model_dump() for message in messages]


def contents(session_id: str) -> list:
    return [message.content for message in open_history(session_id).messages]


def empty():
    history = open_history()
    same(history.messages, [], "messages")
    history.clear()
    same(history.messages, [], "messages after clear")


def exact():
    history = open_history()
    call = {"name": "multiply", "args": {"x": 6, "y": None}, "id": "call_1", "type": "tool_call"}
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    messages = [
        SystemMessage("Be brief. 🌊"),
        HumanMessage([{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]),
        AIMessage("", tool_calls=[call], usage_metadata=usage, id="run-1", response_metadata={"model": "x"}),
        ToolMessage("42", tool_call_id="call_1", artifact={"raw": [1.0, 2]}),
        AIMessage("42", additional_kwargs={"note": None}),
    ]
    history.add_messages(messages)
    same(dumped(open_history(history.session_id).messages), dumped(messages), "messages")


def limit_and_clear():
    history = open_history()
    for number in range(6):
        history.add_user_message(f"question {number}")
        history.add_ai_message(f"answer {number}")
    latest = open_history(history.session_id, limit=3).messages
    same([m.content for m in latest], ["answer 4", "question 5", "answer 5"], "latest 3")
    history.clear()
    same(history.messages, [], "after clear")


def writers_at_once():
    name = new_id()

    def write(writer: int) -> None:
        open_history(name).add_messages([HumanMessage(f"{writer}?"), AIMessage(f"{writer}!")])

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = contents(name)
    same(len(got), 20, "messages")
    for start in range(0, 20, 2):
        same(got[start + 1], got[start].replace("?", "!"), "a pair stays together")


def lost_answers():
    class Lossy(httpx.HTTPTransport):
        calls = 0

        def handle_request(self, request):
            self.calls += 1
            response = super().handle_request(request)
            if self.calls % 2 == 0:
                return response
            response.read()
            raise httpx.ReadError("the answer was lost")

    with httpx.Client(transport=Lossy()) as client:
        history = open_history(client=client)
        history.add_messages([HumanMessage("once?"), AIMessage("once.")])
    same(contents(history.session_id), ["once?", "once."], "messages")


def chain_of(*answers: str) -> tuple[RunnableWithMessageHistory, list]:
    seen: list = []

    def note(prompt):
        seen.append([message.content for message in prompt.to_messages()])
        return prompt

    prompt = ChatPromptTemplate.from_messages(
        [("system", "Be brief."), MessagesPlaceholder("past"), ("human", "{question}")]
    )
    model = GenericFakeChatModel(messages=iter([AIMessage(answer) for answer in answers]))
    chain = RunnableWithMessageHistory(
        prompt | RunnableLambda(note) | model,
        open_history,
        input_messages_key="question",
        history_messages_key="past",
    )
    return chain, seen


def chain():
    name = new_id()
    runnable, seen = chain_of("Wien", "Donau")
    config = {"configurable": {"session_id": name}}
    runnable.invoke({"question": "which city?"}, config)
    runnable.invoke({"question": "which river?"}, config)
    same(seen[1], ["Be brief.", "which city?", "Wien", "which river?"], "what the model saw")
    same(contents(name), ["which city?", "Wien", "which river?", "Donau"], "stored")


def chain_streamed():
    name = new_id()
    runnable, _ = chain_of("a long and winding answer")
    config = {"configurable": {"session_id": name}}
    pieces = [piece.content for piece in runnable.stream({"question": "well?"}, config)]
    same("".join(pieces), "a long and winding answer", "answer")
    same(contents(name), ["well?", "a long and winding answer"], "stored")


async def chain_async():
    name = new_id()
    runnable, seen = chain_of("one", "two")
    config = {"configurable": {"session_id": name}}
    await runnable.ainvoke({"question": "1?"}, config)
    await runnable.ainvoke({"question": "2?"}, config)
    same(seen[1][1:], ["1?", "one", "2?"], "what the model saw")


SCENARIOS = [
    empty, exact, limit_and_clear, writers_at_once, lost_answers, chain, chain_streamed, chain_async,
]
run("langchain", {scenario.__name__: scenario for scenario in SCENARIOS}, ONLY)
