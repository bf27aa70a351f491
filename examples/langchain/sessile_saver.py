"""A checkpointer of LangGraph whose threads are sessions of a sessile server."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)

from sessile_items import Items

FIRST_READ = 16


class SessileSaver(BaseCheckpointSaver[int]):
    """Steps of a graph are appended to the items of a session, and found again from its end."""

    def __init__(self, *, prefix: str = "langgraph-", serde: Any = None, **options: Any) -> None:
        """`prefix`: begins the names of the sessions; `options`: those of `Items`."""
        super().__init__(serde=serde)
        self._prefix = prefix
        self._items = Items(**options)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        place = config["configurable"]
        thread, namespace = place["thread_id"], place.get("checkpoint_ns", "")
        step = {
            "type": "checkpoint",
            "ns": namespace,
            "checkpoint": checkpoint["id"],
            "parent": place.get("checkpoint_id"),
            "state": self._dump(checkpoint),
            "metadata": self._dump(get_checkpoint_metadata(config, metadata)),
        }
        self._items.add(self._prefix + thread, [step])
        return _config(thread, namespace, checkpoint["id"])

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        place = config["configurable"]
        values = [
            [WRITES_IDX_MAP.get(channel, index), channel, *self._dump(value)]
            for index, (channel, value) in enumerate(writes)
        ]
        item = {
            "type": "writes",
            "ns": place.get("checkpoint_ns", ""),
            "checkpoint": place["checkpoint_id"],
            "task": task_id,
            "path": task_path,
            "values": values,
        }
        self._items.add(self._prefix + place["thread_id"], [item])

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        place = config["configurable"]
        wanted, namespace = get_checkpoint_id(config), place.get("checkpoint_ns", "")
        # What is asked for is nearly always near the end.
        count = FIRST_READ
        while True:
            items = self._items.read(self._prefix + place["thread_id"], count)
            for item in reversed(items):
                if item["type"] == "checkpoint" and item["ns"] == namespace and wanted in (None, item["checkpoint"]):
                    return self._tuple(place["thread_id"], item, items)
            if len(items) < count:
                return None
            count *= 4

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Newest first. A thread must be named: threads are sessions, and the server lists those."""
        if config is None:
            raise ValueError("name the thread: config={'configurable': {'thread_id': ...}}")
        place = config["configurable"]
        namespace, wanted = place.get("checkpoint_ns"), get_checkpoint_id(config)
        end = get_checkpoint_id(before) if before else None
        items = self._items.read(self._prefix + place["thread_id"])
        steps = [item for item in items if item["type"] == "checkpoint"]
        for item in sorted(steps, key=lambda step: step["checkpoint"], reverse=True):
            if limit is not None and limit <= 0:
                return
            if namespace not in (None, item["ns"]) or wanted not in (None, item["checkpoint"]):
                continue
            if end is not None and item["checkpoint"] >= end:
                continue
            found = self._tuple(place["thread_id"], item, items)
            if any(found.metadata.get(key) != value for key, value in (filter or {}).items()):
                continue
            limit = None if limit is None else limit - 1
            yield found

    def delete_thread(self, thread_id: str) -> None:
        self._items.clear(self._prefix + thread_id)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(self, config: RunnableConfig | None, **options: Any) -> AsyncIterator[CheckpointTuple]:
        for found in await asyncio.to_thread(lambda: [*self.list(config, **options)]):
            yield found

    async def aput(self, *arguments: Any) -> RunnableConfig:
        return await asyncio.to_thread(self.put, *arguments)

    async def aput_writes(self, *arguments: Any, **named: Any) -> None:
        await asyncio.to_thread(self.put_writes, *arguments, **named)

    async def adelete_thread(self, thread_id: str) -> None:
        await asyncio.to_thread(self.delete_thread, thread_id)

    def _tuple(self, thread: str, step: dict[str, Any], items: Sequence[dict[str, Any]]) -> CheckpointTuple:
        name, namespace = step["checkpoint"], step["ns"]
        writes: dict[tuple[str, int], tuple[str, list[Any]]] = {}
        for item in items:
            if item["type"] == "writes" and item["ns"] == namespace and item["checkpoint"] == name:
                for value in item["values"]:
                    key = (item["task"], value[0])
                    # A task that ran again said the same; only its errors and interrupts may change.
                    if value[0] < 0 or key not in writes:
                        writes[key] = (item["path"], value)
        ordered = sorted(writes.items(), key=lambda entry: writes_sort_key(entry[1][0], *entry[0]))
        parent = step["parent"]
        return CheckpointTuple(
            config=_config(thread, namespace, name),
            checkpoint=self._load(step["state"]),
            metadata=self._load(step["metadata"]),
            parent_config=_config(thread, namespace, parent) if parent else None,
            pending_writes=[(task, value[1], self._load(value[2:])) for (task, _), (_, value) in ordered],
        )

    def _dump(self, value: Any) -> list[str]:
        kind, data = self.serde.dumps_typed(value)
        return [kind, b64encode(data).decode()]

    def _load(self, dumped: Sequence[str]) -> Any:
        return self.serde.loads_typed((dumped[0], b64decode(dumped[1])))


def _config(thread: str, namespace: str, checkpoint: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": checkpoint}}
