"""LangChain and LangGraph with the history and the checkpointer of examples/langchain."""

from __future__ import annotations

import operator
import sys
import threading
from pathlib import Path
from typing import Annotated, TypedDict

import httpx
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from scenarios import check, new_id, read_arguments, run, same

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "langchain"))
from sessile_history import SessileHistory  # noqa: E402
from sessile_saver import SessileSaver  # noqa: E402

BASE, ONLY = read_arguments()


def open_history(session_id: str | None = None, **options) -> SessileHistory:
    return SessileHistory(session_id or new_id(), base_url=BASE, **options)


def open_saver(**options) -> SessileSaver:
    return SessileSaver(base_url=BASE, **options)


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
        history.add_messages([HumanMessage(f"question {number}"), AIMessage(f"answer {number}")])
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


class Lossy(httpx.HTTPTransport):
    """Loses the first answer to every request, also of several threads at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_request(self, request):
        name = request.headers.get("idempotency-key", str(request.url))
        response = super().handle_request(request)
        if name in self.seen:
            return response
        self.seen.add(name)
        response.read()
        raise httpx.ReadError("the answer was lost")


def lost_answers():
    with httpx.Client(transport=Lossy()) as client:
        history = open_history(client=client)
        history.add_messages([HumanMessage("once?"), AIMessage("once.")])
        agent = agent_of("Wien", saver=open_saver(client=client))
        thread = named(new_id())
        agent.invoke(asked("which city?"), thread)
    same(contents(history.session_id), ["once?", "once."], "messages")
    same(said(agent_of(), thread), ["which city?", "Wien"], "state")


def shown():
    history = open_history()
    call = {"name": "multiply", "args": {"x": 6}, "id": "call_1", "type": "tool_call"}
    history.add_messages([SystemMessage("Be brief."), HumanMessage("six?"), AIMessage("", tool_calls=[call])])
    history.add_messages([ToolMessage("42", tool_call_id="call_1"), AIMessage("It is 42.")])
    page = httpx.get(f"{BASE}/v1/sessions/{history.session_id}/messages").json()["items"]
    seen = [[message["role"], message["content"]] for message in page]
    same(seen, [["system", "Be brief."], ["user", "six?"], ["assistant", "It is 42."]], "messages")


async def at_once():
    history = open_history()
    await history.aadd_messages([HumanMessage("a?")])
    same([message.content for message in await history.aget_messages()], ["a?"], "messages")
    await history.aclear()
    same(await history.aget_messages(), [], "after clear")


def named(thread: str) -> dict:
    return {"configurable": {"thread_id": thread}}


def asked(question: str) -> dict:
    return {"messages": [("user", question)]}


def agent_of(*answers: str, saver: SessileSaver | None = None):
    model = GenericFakeChatModel(messages=iter([AIMessage(answer) for answer in answers]))
    return create_agent(model, checkpointer=saver or open_saver())


def said(agent, thread: dict) -> list:
    return [message.content for message in agent.get_state(thread).values["messages"]]


async def conformance():
    @checkpointer_test(name="SessileSaver")
    async def saver():
        yield open_saver(prefix=f"{new_id()}-")

    report = await validate(saver)
    failures = [why[:300] for result in report.results.values() for why in result.failures or []]
    check(report.passed_all_base() and not failures, str(failures))


def agent():
    thread = named(new_id("a/b ü"))
    agent_of("Wien").invoke(asked("which city?"), thread)
    again = agent_of("Donau")
    again.invoke(asked("which river?"), thread)
    same(said(again, thread), ["which city?", "Wien", "which river?", "Donau"], "state")
    same(said(agent_of("x"), thread), said(again, thread), "state in another process")


async def agent_async():
    thread = named(new_id())
    await agent_of("Wien").ainvoke(asked("which city?"), thread)
    again = agent_of("Donau und so weiter")
    async for _ in again.astream(asked("which river?"), thread, stream_mode="messages"):
        pass
    state = await again.aget_state(thread)
    same(len(state.values["messages"]), 4, "messages")
    same(len([step async for step in again.aget_state_history(thread)]), 6, "steps of two runs")


class Visits(TypedDict):
    places: Annotated[list[str], operator.add]


def graph_of(approve):
    graph = StateGraph(Visits)
    graph.add_node("plan", lambda state: {"places": ["plan"]})
    graph.add_node("approve", approve)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "approve")
    graph.add_edge("approve", END)
    return graph.compile(checkpointer=open_saver())


def interrupts():
    thread = named(new_id())
    ask = lambda state: {"places": [interrupt("may it fly?")]}  # noqa: E731
    stopped = graph_of(ask).invoke({"places": []}, thread)
    same(stopped["__interrupt__"][0].value, "may it fly?", "interrupt")
    done = graph_of(ask).invoke(Command(resume="it may"), thread)
    same(done["places"], ["plan", "it may"], "state, carried on by another process")


def failures():
    thread, calls = named(new_id()), []

    def fails_once(state):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("the tower does not answer")
        return {"places": ["flown"]}

    try:
        graph_of(fails_once).invoke({"places": []}, thread)
    except RuntimeError:
        pass
    done = graph_of(fails_once).invoke(None, thread)
    same([done["places"], len(calls)], [["plan", "flown"], 2], "state; what was done is not done again")


def forks():
    thread = named(new_id())
    graph = graph_of(lambda state: {"places": ["flown"]})
    graph.invoke({"places": []}, thread)
    before = next(step for step in graph.get_state_history(thread) if step.next == ("approve",))
    graph.update_state(before.config, {"places": ["detour"]})
    same(graph.invoke(None, thread)["places"], ["plan", "detour", "flown"], "state of the fork")
    same(len([*graph.get_state_history(thread)]) > 4, True, "the first run is still there")


def many_steps():
    thread = named(new_id())
    for number in range(30):
        agent_of(f"answer {number}").invoke(asked(f"question {number}"), thread)
    agent = agent_of()
    same(len(said(agent, thread)), 60, "messages")
    first = [*agent.get_state_history(thread)][-1]
    same(agent.get_state(first.config).values["messages"], [], "the first step is found")


def delete_thread():
    name = new_id()
    agent_of("Wien").invoke(asked("which city?"), named(name))
    open_saver().delete_thread(name)
    same(agent_of().get_state(named(name)).values, {}, "state")
    agent = agent_of("Donau")
    agent.invoke(asked("which river?"), named(name))
    same(said(agent, named(name)), ["which river?", "Donau"], "usable afterwards")


SCENARIOS = [
    empty, exact, limit_and_clear, writers_at_once, lost_answers, shown, at_once,
    conformance, agent, agent_async, interrupts, failures, forks, many_steps, delete_thread,
]
run("langchain", {scenario.__name__: scenario for scenario in SCENARIOS}, ONLY)
