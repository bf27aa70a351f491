"""A model with a history that others can read and follow: the messages are the session's."""

import os
import sys

from langchain_core.messages import HumanMessage

from offline import Offline
from sessile_history import SessileHistory

model = Offline()
history = SessileHistory(
    sys.argv[1] if len(sys.argv) > 1 else "langchain-history",
    base_url=os.environ.get("SESSILE_URL", "http://127.0.0.1:8080"),
)
print(len(history.messages), "messages from before")
for question in ("Which city is the Prater in?", "Which river runs through it?"):
    asked = HumanMessage(question)
    answer = model.invoke([*history.messages, asked])
    history.add_messages([asked, answer])
    print(f"{question}\n  {answer.text}")
