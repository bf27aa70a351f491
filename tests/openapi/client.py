"""Uses the client that is generated from the document: what it cannot read, the document says wrongly."""

import sys

from sessile_client import Client
from sessile_client.api.chat import chat
from sessile_client.api.conversations import create_conversation, read_conversation
from sessile_client.api.events import read_events
from sessile_client.api.health import explain, version
from sessile_client.api.items import add_items, list_items
from sessile_client.api.messages import add_message, count_messages, list_messages
from sessile_client.api.sessions import create_session, delete_session, list_sessions, read_session
from sessile_client.api.turns import start_turn
from sessile_client.models import (
    Answered,
    CreateConversation,
    CreateSession,
    Items,
    ItemsItemsItem,
    NewMessage,
    OpenAiError,
    Problem,
    Role,
    Say,
    StartTurn,
    TurnState,
)

client = Client(base_url=sys.argv[1])
name = "generated client, with a blank"

session = create_session.sync(client=client, body=CreateSession(id=name, title="Generated"))
assert session.id == name and session.title == "Generated", session

hello = NewMessage(role=Role.USER, content="Hello")
first = add_message.sync(name, client=client, body=hello, idempotency_key="once")
again = add_message.sync(name, client=client, body=hello, idempotency_key="once")
assert first.id == again.id and first.seq == again.seq
assert count_messages.sync(name, client=client).count == 1

turn = StartTurn(message=NewMessage(role=Role.USER, content="How are you?"))
answered = start_turn.sync(name, client=client, body=turn)
assert isinstance(answered, Answered) and answered.turn.state == TurnState.COMPLETED, answered
assert answered.message.content == "echo: How are you?", answered

page = list_messages.sync(name, client=client, limit=10)
assert [message.role.value for message in page.items] == ["user", "user", "assistant"], page
assert page.items[2].content == answered.message.content and not page.has_more

log = read_events.sync(name, client=client, after=0)
kinds = [type(frame).__name__ for frame in log.events]
assert kinds[0] == "SessionFrame" and "MessageFrame" in kinds and kinds[-1] == "TurnFrame", kinds
assert [frame.seq for frame in log.events] == list(range(1, log.last_seq + 1))

stream = chat.sync("generated-chat", client=client, body=Say(content="Hi"))
assert "event: done" in stream and "echo: Hi" in stream, stream

item = ItemsItemsItem.from_dict({"type": "message", "role": "user", "content": "x"})
assert add_items.sync("generated-items", client=client, body=Items(items=[item])).count == 1
assert list_items.sync("generated-items", client=client).items[0].to_dict() == item.to_dict()

made = create_conversation.sync(client=client, body=CreateConversation())
assert read_conversation.sync(made.id, client=client).id == made.id

# Errors are types too, each route's own.
missing = read_session.sync("generated-nothing", client=client)
assert isinstance(missing, Problem) and missing.code == "session_not_found", missing
assert explain.sync(missing.code, client=client).status == 404
missing = read_conversation.sync("generated-nothing", client=client)
assert isinstance(missing, OpenAiError) and missing.error.code == "session_not_found", missing

assert any(one.id == name for one in list_sessions.sync(client=client).items)
assert delete_session.sync_detailed(name, client=client).status_code == 204
assert version.sync(client=client).name == "sessile"
print("a session was made, used, read back and deleted")
