"""A model that says what it was told to say, and the tools of the scenarios."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from agents import Model, ModelResponse, Usage, function_tool
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

_next = iter(range(1_000_000))


def says(text: str) -> list:
    content = ResponseOutputText(type="output_text", text=text, annotations=[])
    return [
        ResponseOutputMessage(
            id=f"msg_{next(_next)}", type="message", role="assistant", status="completed", content=[content]
        )
    ]


def calls(name: str, **arguments: object) -> list:
    number = next(_next)
    return [
        ResponseFunctionToolCall(
            id=f"fc_{number}",
            call_id=f"call_{number}",
            type="function_call",
            name=name,
            arguments=json.dumps(arguments),
        )
    ]


class ScriptedModel(Model):
    def __init__(self, *script: object) -> None:
        self.script = list(script)
        self.inputs: list[list] = []

    def _next_output(self, given: object) -> list:
        self.inputs.append(json.loads(json.dumps(given if isinstance(given, list) else [given])))
        output = self.script.pop(0)
        if isinstance(output, Exception):
            raise output
        return output

    async def get_response(self, system_instructions, input, *args, **kwargs) -> ModelResponse:
        return ModelResponse(output=self._next_output(input), usage=Usage(requests=1), response_id=None)

    async def stream_response(self, system_instructions, input, *args, **kwargs) -> AsyncIterator:
        output = self._next_output(input)
        for index, item in enumerate(output):
            if item.type == "message":
                yield ResponseTextDeltaEvent(
                    type="response.output_text.delta",
                    item_id=item.id,
                    output_index=index,
                    content_index=0,
                    delta=item.content[0].text,
                    logprobs=[],
                    sequence_number=index,
                )
        response = Response(
            id=f"resp_{next(_next)}",
            created_at=0,
            model="scripted",
            object="response",
            output=output,
            tool_choice="none",
            tools=[],
            parallel_tool_calls=False,
        )
        yield ResponseCompletedEvent(
            type="response.completed", response=response, sequence_number=len(output)
        )


@function_tool
def multiply(x: float, y: float) -> str:
    """Multiplies two numbers."""
    return f"{x * y:g}"


@function_tool(needs_approval=True)
def launch(rocket: str) -> str:
    """Launches a rocket."""
    return f"{rocket} is in the air"


def question(text: str) -> dict:
    return {"role": "user", "content": text}


def questions(count: int) -> list[dict]:
    return [question(f"question {number}") for number in range(count)]


def kinds(items: list[dict]) -> list[str]:
    return [item.get("role") or item["type"] for item in items]


def texts(items: list[dict]) -> list[str]:
    return [
        item["content"] if isinstance(item["content"], str) else item["content"][0]["text"] for item in items
    ]
