"""Two questions about one history. Start it again and it knows what was said before."""

import asyncio
import os
import sys

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from sessile_session import SessileSession


class Offline(Model):
    """Stands in for a model where there is no key: it says how much of the history reached it."""

    async def get_response(self, system_instructions, input, *args, **kwargs) -> ModelResponse:
        text = f"I was given {1 if isinstance(input, str) else len(input)} items."
        content = ResponseOutputText(type="output_text", text=text, annotations=[])
        message = ResponseOutputMessage(
            id="offline", type="message", role="assistant", status="completed", content=[content]
        )
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *args, **kwargs):
        raise NotImplementedError("this model does not stream")


async def main() -> None:
    set_tracing_disabled(True)
    session = SessileSession(
        sys.argv[1] if len(sys.argv) > 1 else "agents-demo-python",
        base_url=os.environ.get("SESSILE_URL", "http://127.0.0.1:8080"),
    )
    model = None if os.environ.get("OPENAI_API_KEY") else Offline()
    agent = Agent(name="Guide", instructions="Answer in one short sentence.", model=model)
    print(len(await session.get_items()), "items from before")
    for question in ("Which city is the Prater in?", "Which river runs through it?"):
        result = await Runner.run(agent, question, session=session)
        print(f"{question}\n  {result.final_output}")
    await session.aclose()


asyncio.run(main())
