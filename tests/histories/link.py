"""The network between a server and its store: a forwarder that can hold back what it carries."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

PORTION = 65536  # bytes


class Link:
    """Forwards connections to a port of this machine, on a thread of its own.

    What is held back arrives when it is carried again, also from senders that have gone: as with a
    network that was cut and came back.

    Args:
        target: returns the port of the other side, for each new connection.

    Attributes:
        port: on the loopback interface.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        self._asks, self._answers = asyncio.Event(), asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread.start()
        self.carry()
        self.port: int = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def hold(self, *, answers_only: bool = False) -> None:
        """Carry nothing any more, or only what is asked."""
        for event in (self._answers, *[self._asks] * (not answers_only)):
            self._loop.call_soon_threadsafe(event.clear)

    def carry(self) -> None:
        """Carry what was held back, and what follows."""
        for event in (self._answers, self._asks):
            self._loop.call_soon_threadsafe(event.set)

    def cut(self) -> None:
        """End all connections; what was held back is lost, and new ones are carried."""

        def abort() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self._loop.call_soon_threadsafe(abort)
        self.carry()

    def close(self) -> None:
        """End everything."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connect(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close, back)
            self._writers.add(back)
            with suppress(OSError, asyncio.CancelledError):  # `close` cancels, and ends the loop
                await self._asks.wait()
                far, forth = await asyncio.open_connection("127.0.0.1", self._target())
                stack.push_async_callback(self._close, forth)
                self._writers.add(forth)
                await asyncio.gather(
                    _pump(near, forth, self._asks), _pump(far, back, self._answers)
                )

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()


async def _pump(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, carries: asyncio.Event
) -> None:
    with suppress(OSError):
        while data := await source.read(PORTION):
            await carries.wait()
            sink.write(data)
            await sink.drain()
        await carries.wait()
    sink.close()
