"""How methods are added to the server."""

import asyncio

from tests.serving.running import PATIENCE, RunningServer


async def waits() -> list[str]:
    """Describe the tasks in which gRPC's server waits for a next call."""
    return [task for task in map(repr, asyncio.all_tasks()) if "AioServer._request_" in task]


def test_server_waits_for_the_next_call_of_any_method_at_once(shared_server: RunningServer) -> None:
    running = asyncio.run_coroutine_threadsafe(waits(), shared_server.loop).result(PATIENCE)
    assert len(running) == 1
