"""The OpenAI Agents SDK for Python with the session of examples/agents-python."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
from agents import (
    Agent,
    GuardrailFunctionOutput,
    MaxTurnsExceeded,
    OutputGuardrail,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    Runner,
    RunState,
    SessionSettings,
    set_tracing_disabled,
)

from model import ScriptedModel, calls, kinds, launch, multiply, question, questions, says, texts
from scenarios import check, new_id, read_arguments, refused, run, same

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "agents-python"))
from sessile_session import SessileError, SessileSession  # noqa: E402

BASE, ONLY = read_arguments()
TOOL_TURN = ["user", "function_call", "function_call_output", "assistant"]


def open_session(session_id: str | None = None, **options) -> SessileSession:
    return SessileSession(session_id or new_id(), base_url=BASE, **options)


async def ask(agent: Agent, given, session, stream: bool = False, **options):
    if not stream:
        return await Runner.run(agent, given, session=session, **options)
    result = Runner.run_streamed(agent, given, session=session, **options)
    async for _ in result.stream_events():
        pass
    return result


async def unknown():
    session = open_session()
    same(await session.get_items(), [], "items")
    same(await session.get_items(limit=2), [], "latest 2")
    same(await session.pop_item(), None, "pop")
    await session.clear_session()


async def order():
    session = open_session()
    everything = questions(30)
    for start, end in ((0, 1), (1, 14), (14, 14), (14, 30)):
        await session.add_items(everything[start:end])
    same(await session.get_items(), everything, "all, oldest first")


async def limit():
    session = open_session()
    await session.add_items(questions(10))
    for count in (1, 4, 10, 11, 900):
        same(await session.get_items(limit=count), questions(10)[-count:], f"latest {count}")
    same(await session.get_items(limit=0), [], "limit 0")
    same(await session.get_items(limit=-1), [], "negative limit")
    limited = open_session(session.session_id, session_settings=SessionSettings(limit=3))
    same(await limited.get_items(), questions(10)[-3:], "limit of the settings")


async def pop():
    session = open_session()
    await session.add_items(questions(3))
    for number in (2, 1, 0):
        same(await session.pop_item(), question(f"question {number}"), f"pop of {number}")
    same(await session.pop_item(), None, "pop of nothing")
    await session.add_items([question("later")])
    same(await session.get_items(), [question("later")], "usable afterwards")


async def clear():
    session, neighbour = open_session(), open_session()
    await session.add_items(questions(4))
    await neighbour.add_items(questions(1))
    await session.clear_session()
    same(await session.get_items(), [], "after clear")
    same(await neighbour.get_items(), questions(1), "the neighbour")
    await session.replace_items([question("new start")])
    same(await session.get_items(), [question("new start")], "after replace")


async def exact():
    session = open_session()
    item = {"zeta": 1.0, "role": "user", "alpha": [None, {}, 10**30, -0.5, "🌊\u0000\u2028\"\\"], "content": ""}
    await session.add_items([item])
    same(await session.get_items(), [item], "item, with 1.0 and whole numbers of any size")


async def odd_ids():
    for odd in ("a/b", "a%2Fb", "ü ?#&=", "山"):
        session = open_session(new_id(odd))
        await session.add_items([question(odd)])
        same(await open_session(session.session_id).get_items(), [question(odd)], f"session {odd}")


async def concurrency():
    name = new_id()
    batches = [[question(f"{writer}.{part}") for part in range(3)] for writer in range(20)]
    await asyncio.gather(*(open_session(name).add_items(batch) for batch in batches))
    got = texts(await open_session(name).get_items())
    same(len(got), 60, "items")
    for start in range(0, 60, 3):
        writer = int(got[start].split(".")[0])
        same(got[start : start + 3], texts(batches[writer]), "a batch stays in one piece")
    popped = await asyncio.gather(*(open_session(name).pop_item() for _ in range(40)))
    same(len({item["content"] for item in popped}), 40, "items popped")
    same(texts(await open_session(name).get_items()), got[:20], "the oldest stay")


async def lost_answers():
    class Lossy(httpx.AsyncHTTPTransport):
        calls = 0

        async def handle_async_request(self, request):
            self.calls += 1
            response = await super().handle_async_request(request)
            if self.calls % 2 == 0:
                return response
            await response.aread()
            raise httpx.ReadError("the answer was lost")

    async with httpx.AsyncClient(transport=Lossy()) as client:
        session = open_session(client=client)
        await session.add_items(questions(3))
        same(await session.pop_item(), question("question 2"), "pop")
    same(await open_session(session.session_id).get_items(), questions(2), "each call was done once")


async def transactions():
    session = open_session()
    append = {"type": "append_items", "items": questions(2)}
    same(await session.apply_transaction("one", append), True, "first time")
    same(await session.apply_transaction("one", append), False, "second time")
    other = {"type": "append_items", "items": questions(1)}
    error = await refused(session.apply_transaction("one", other), SessileError, "a used id")
    same([error.status, error.code], [409, "operation_reused"], "error")
    swap = {"type": "replace_suffix", "expectedSuffix": questions(1), "replacement": []}
    error = await refused(session.apply_transaction("two", swap), SessileError, "another suffix")
    same([error.status, error.code], [409, "suffix_mismatch"], "error")
    same(await session.get_items(), questions(2), "items")


async def run_text():
    for stream in (False, True):
        name = new_id()
        model = ScriptedModel(says("Wien"), says("Donau"))
        agent = Agent(name="Guide", instructions="short", model=model)
        for given, wanted in (("which city?", "Wien"), ("which river?", "Donau")):
            result = await ask(agent, given, open_session(name), stream)
            same(result.final_output, wanted, f"answer, stream {stream}")
        same(texts(model.inputs[1]), ["which city?", "Wien", "which river?"], "what the model saw")
        stored = texts(await open_session(name).get_items())
        same(stored, ["which city?", "Wien", "which river?", "Donau"], "stored")


async def run_tools():
    for stream in (False, True):
        name = new_id()
        model = ScriptedModel(calls("multiply", x=6, y=7), says("42"), says("bye"))
        agent = Agent(name="Sums", model=model, tools=[multiply])
        await ask(agent, "six times seven", open_session(name), stream)
        stored = await open_session(name).get_items()
        same(kinds(stored), TOOL_TURN, "stored")
        same([stored[2]["call_id"], stored[2]["output"]], [stored[1]["call_id"], "42"], "result")
        await ask(agent, "thanks", open_session(name), stream)
        same(kinds(model.inputs[2]), [*TOOL_TURN, "user"], "the next turn sees the tools")


async def run_limited():
    session = open_session()
    await session.add_items(questions(9))
    model = ScriptedModel(says("ok"))
    config = RunConfig(session_settings=SessionSettings(limit=2))
    await ask(Agent(name="Guide", model=model), "now", session, run_config=config)
    same(texts(model.inputs[0]), ["question 7", "question 8", "now"], "what the model saw")
    same(len(await session.get_items()), 11, "stored")


async def run_model_error():
    for stream in (False, True):
        session = open_session()
        model = ScriptedModel(RuntimeError("overloaded"), says("fine"))
        agent = Agent(name="Guide", model=model)
        await refused(ask(agent, "first", session, stream), RuntimeError, "a failing model")
        await ask(agent, "second", session, stream)
        same(texts(model.inputs[1]), ["first", "second"], "the failed turn keeps its question")


async def run_max_turns():
    session = open_session()
    model = ScriptedModel(calls("multiply", x=1, y=1), calls("multiply", x=2, y=2))
    agent = Agent(name="Sums", model=model, tools=[multiply])
    await refused(ask(agent, "go on", session, max_turns=1), MaxTurnsExceeded, "a run without end")
    same(kinds(await session.get_items()), TOOL_TURN[:3], "finished work is kept")


async def run_guardrail():
    async def secret(context, agent, output):
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=output == "secret")

    session = open_session()
    guard = OutputGuardrail(guardrail_function=secret)
    agent = Agent(name="Guide", model=ScriptedModel(says("secret")), output_guardrails=[guard])
    call = ask(agent, "tell me", session)
    await refused(call, OutputGuardrailTripwireTriggered, "a forbidden answer")
    same(texts(await session.get_items())[:1], ["tell me"], "the question is kept")


async def run_approval():
    for stream in (False, True):
        for approved in (True, False):
            name = new_id()
            model = ScriptedModel(calls("launch", rocket="Ariane"), says("done"))
            agent = Agent(name="Control", model=model, tools=[launch])
            first = await ask(agent, "launch it", open_session(name), stream)
            same(len(first.interruptions), 1, "interruptions")
            state = await RunState.from_string(agent, first.to_state().to_string())
            for interruption in state.get_interruptions():
                (state.approve if approved else state.reject)(interruption)
            second = await ask(agent, state, open_session(name), stream)
            same(second.final_output, "done", "answer")
            stored = await open_session(name).get_items()
            same(kinds(stored), TOOL_TURN, "stored")
            flew = stored[2]["output"] == "Ariane is in the air"
            check(flew == approved, f"approved {approved}, result {stored[2]['output']}")


set_tracing_disabled(True)
SCENARIOS = [
    unknown, order, limit, pop, clear, exact, odd_ids, concurrency, lost_answers, transactions,
    run_text, run_tools, run_limited, run_model_error, run_max_turns, run_guardrail, run_approval,
]
run("agents-python", {scenario.__name__: scenario for scenario in SCENARIOS}, ONLY)
