"""An agent whose thread is kept by the server. Start it again and it knows what was said before."""

import os
import sys

from langchain.agents import create_agent

from offline import Offline
from sessile_saver import SessileSaver

saver = SessileSaver(base_url=os.environ.get("SESSILE_URL", "http://127.0.0.1:8080"))
agent = create_agent(Offline(), checkpointer=saver)
thread = {"configurable": {"thread_id": sys.argv[1] if len(sys.argv) > 1 else "demo"}}
print(len(agent.get_state(thread).values.get("messages", [])), "messages from before")
for question in ("Which city is the Prater in?", "Which river runs through it?"):
    state = agent.invoke({"messages": [("user", question)]}, thread)
    print(f"{question}\n  {state['messages'][-1].text}")
