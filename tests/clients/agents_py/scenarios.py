"""Runs named scenarios against a server and prints one line for each."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import time
import traceback

LIMIT_S = 40
_next = iter(range(1_000_000))


class Failure(Exception):
    pass


class Skipped(Exception):
    pass


def check(condition: object, why: str) -> None:
    if not condition:
        raise Failure(why)


def same(got: object, want: object, what: str) -> None:
    """Exact: the order of keys counts."""
    left, right = json.dumps(got), json.dumps(want)
    check(left == right, f"{what}: got {left[:600]}, want {right[:600]}")


def new_id(prefix: str = "python") -> str:
    return f"{prefix}-{os.getpid()}-{time.time_ns():x}-{next(_next)}"


async def refused(call, kind: type[BaseException], what: str) -> BaseException:
    try:
        await call
    except kind as error:
        return error
    raise Failure(f"{what} was accepted")


def read_arguments() -> tuple[str, list[str]]:
    if len(sys.argv) < 2:
        print(f"usage: python {os.path.basename(sys.argv[0])} <base-url> [scenario ...]", file=sys.stderr)
        raise SystemExit(2)
    return sys.argv[1].rstrip("/"), sys.argv[2:]


async def _run(prefix: str, scenarios: dict, only: list[str]) -> int:
    chosen = {name: f for name, f in scenarios.items() if not only or name in only}
    failures = 0 if chosen else 1
    for name, scenario in chosen.items():
        try:
            result = scenario()
            if inspect.isawaitable(result):
                await asyncio.wait_for(result, LIMIT_S)
            print(f"ok {prefix} {name}", flush=True)
        except Skipped as why:
            print(f"skip {prefix} {name}: {why}", flush=True)
        except Failure as why:
            failures += 1
            print(f"FAIL {prefix} {name}: {why}", flush=True)
        except Exception:
            failures += 1
            trace = traceback.format_exc(limit=-4).replace("\n", " | ")
            print(f"FAIL {prefix} {name}: {trace}", flush=True)
    return failures


def run(prefix: str, scenarios: dict, only: list[str]) -> None:
    """`scenarios`: functions whose names say what they check."""
    named = {name.replace("_", "-"): scenario for name, scenario in scenarios.items()}
    raise SystemExit(1 if asyncio.run(_run(prefix, named, only)) else 0)
