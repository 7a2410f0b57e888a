"""A bundle in this process: answers as a server does, on an event loop."""

import asyncio
import atexit
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from serving.engine.models import Models
from serving.engine.options import EngineOptions
from serving.local.bulk import LocalBulk
from serving.local.call import LIMITS, LocalCall, place_of
from serving.sessions.capsule import CapsuleKeys
from serving.sessions.memory_store import MemoryStore
from serving.sessions.registry import NOBODY, Sessions
from serving.sessions.session import Session, digest_of
from serving.texts.begin import begin, check_seeds
from serving.texts.constraint import constrain
from serving.texts.delivery import LoopDelivery
from serving.texts.given.named import named_as_options
from serving.texts.inspect.inspection import Inspections
from serving.texts.many.item import Item
from serving.texts.origins import Origin as Found
from serving.texts.origins import Origins
from serving.texts.parse.each import Parse, each_generate, each_score
from serving.texts.parse.score import parse_score
from serving.texts.results import generation_of, model_info, piece_of, score_of, session_info
from serving.texts.text import Part, Text, Texts, whole
from unroll.errors import ClosedError
from unroll.options import (
    FindUnitsOptions,
    GenerateOptions,
    InspectOptions,
    Origin,
    ScoreOptions,
    SessionOptions,
)
from unroll.results import (
    FoundUnits,
    Generation,
    Inspection,
    ModelInfo,
    Piece,
    Score,
    SessionInfo,
)
from unroll.sent import as_sent, seeds_as_sent, text_as_sent

SESSIONS_AT_MOST = 100_000
Asked = TypeVar(
    "Asked", GenerateOptions, ScoreOptions, InspectOptions, FindUnitsOptions, SessionOptions
)


class AsyncLocal:
    """Runs one bundle on the running event loop; the AsyncBackend of a model in this process.

    Args:
        folder: of the bundle; its name is the model's.
        options: how to run it.
        keys: sign and open capsules.

    Attributes:
        model: that is run.

    Raises:
        BundleError: the bundle is damaged.
        DeviceError: the device is not there.
    """

    def __init__(self, folder: Path, options: EngineOptions, keys: CapsuleKeys) -> None:
        delivery = LoopDelivery(asyncio.get_running_loop(), lambda: None)
        self._models = Models.load([str(folder.resolve())], options, delivery)
        self.model = self._models.get("")
        self._sessions = Sessions(MemoryStore(SESSIONS_AT_MOST), self._models.layouts)
        self._origins = Origins(self._models, self._sessions, keys)
        self._texts = Texts(self._origins, LIMITS)
        self._inspections = Inspections(LIMITS)
        self._is_closed = False
        # A thread that returns from ONNX Runtime while Python ends would abort the process.
        atexit.register(self.model.engine.close)
        self._models.start()

    async def generate(
        self, prompt: str, options: GenerateOptions, origin: Origin, timeout: float | None
    ) -> Generation:
        """See AsyncBackend."""
        await _give_way()
        async with self._opening(prompt, options, origin, timeout, is_streamed=False) as text:
            first, *further = [generation_of(text, part) for part in await text.wholes()]
            return replace(first, further_samples=tuple(further))

    async def stream(
        self, prompt: str, options: GenerateOptions, origin: Origin, timeout: float | None
    ) -> AsyncGenerator[Piece]:
        """See AsyncBackend."""
        pieces: asyncio.Queue[Piece | None] = asyncio.Queue()

        async def send() -> None:
            async with self._opening(prompt, options, origin, timeout, is_streamed=True) as text:

                async def send_part(part: Part) -> None:
                    pieces.put_nowait(piece_of(text, part))
                    await pieces.join()  # until the reader asks for the next

                await text.stream(send_part)

        # Event loops that end cancel tasks first, then close generators in no order: hence only
        # the task holds what must be left inside out.
        sending = asyncio.ensure_future(send())
        sending.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
                pieces.task_done()
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def score(
        self, text: str, options: ScoreOptions, origin: Origin, timeout: float | None
    ) -> Score:
        """See AsyncBackend."""
        await _give_way()
        self._check_open()
        call, text = LocalCall.within(timeout), text_as_sent("text", text)
        options, found = await self._find(options, origin)
        parsed = parse_score(text, options, found, LIMITS, call)
        scored = await whole(found, parsed.request)
        return score_of(parsed, scored, found.model)

    async def inspect(
        self, text: str, options: InspectOptions, origin: Origin, timeout: float | None
    ) -> Inspection:
        """See AsyncBackend."""
        self._check_open()
        call, text = LocalCall.within(timeout), text_as_sent("text", text)
        options, found = await self._find(options, origin)
        return await self._inspections.inspect(text, options, found, call.deadline)

    async def find_units(
        self,
        text: str,
        targets: str,
        options: FindUnitsOptions,
        origin: Origin,
        timeout: float | None,
    ) -> FoundUnits:
        """See AsyncBackend."""
        self._check_open()
        call, text = LocalCall.within(timeout), text_as_sent("text", text)
        options, found = await self._find(options, origin)
        return await self._inspections.find_units(text, targets, options, found, call.deadline)

    async def generate_many(
        self, options: GenerateOptions, origin: Origin, timeout: float | None, *, in_order: bool
    ) -> LocalBulk[Generation]:
        """See AsyncBackend."""
        self._check_open()
        call = LocalCall.within(timeout)
        options, found = await self._find(options, origin)
        with named_as_options():
            constraint = await constrain(options, found, self._origins.automata)
        parse = each_generate(options, found, LIMITS, call, constraint)

        def read(item: Item) -> Generation:
            parsed, chunk = item.outcome
            text = Text(self._origins, found, parsed, call)
            return generation_of(text, text.part(parsed.request, 0, chunk))

        return LocalBulk(found.model.engine, _sent("prompt", parse), read, in_order=in_order)

    async def score_many(
        self, options: ScoreOptions, origin: Origin, timeout: float | None, *, in_order: bool
    ) -> LocalBulk[Score]:
        """See AsyncBackend."""
        self._check_open()
        call = LocalCall.within(timeout)
        options, found = await self._find(options, origin)
        parse = each_score(options, found, LIMITS, call)

        def read(item: Item) -> Score:
            parsed, chunk = item.outcome
            return score_of(parsed, chunk, found.model)

        return LocalBulk(found.model.engine, _sent("text", parse), read, in_order=in_order)

    async def start_session(
        self, options: SessionOptions, capsule: bytes, timeout: float | None
    ) -> SessionInfo:
        """See AsyncBackend; sessions live as long as this does."""
        self._check_open()
        options, found = await self._find(options, Origin(capsule=capsule))
        with named_as_options():
            contents = begin(options, found)
        return self._describe(await self._sessions.start(NOBODY, found.model.fingerprint, contents))

    async def get_session(self, session_id: str, timeout: float | None) -> SessionInfo:
        """See AsyncBackend."""
        self._check_open()
        named = text_as_sent("session", session_id)
        return self._describe(await self._sessions.get(named, NOBODY))

    async def fork_session(
        self, session_id: str, seeds: Iterable[int], timeout: float | None
    ) -> list[SessionInfo]:
        """See AsyncBackend."""
        self._check_open()
        given = seeds_as_sent(seeds)
        check_seeds(given, self._sessions.marks, LIMITS)
        async with self._sessions.use(session_id, NOBODY) as session:
            return [self._describe(fork) for fork in await self._sessions.fork(session, given)]

    async def rewind_session(
        self, session_id: str, position: int, timeout: float | None
    ) -> SessionInfo:
        """See AsyncBackend."""
        self._check_open()
        async with self._sessions.use(session_id, NOBODY) as session:
            await self._sessions.rewind(session, position)
            return self._describe(session)

    async def end_session(self, session_id: str, timeout: float | None) -> None:
        """See AsyncBackend."""
        self._check_open()
        await self._sessions.end(session_id, NOBODY)

    async def get_model(self, name: str, timeout: float | None) -> ModelInfo:
        """See AsyncBackend."""
        return model_info(self._models.get(text_as_sent("model", name)))

    async def list_models(self, timeout: float | None) -> list[ModelInfo]:
        """See AsyncBackend."""
        return [model_info(self.model)]

    async def close(self) -> None:
        """End what runs, with ClosedError."""
        self._is_closed = True
        await asyncio.to_thread(self._models.close)
        atexit.unregister(self.model.engine.close)

    async def _find(self, options: Asked, origin: Origin) -> tuple[Asked, Found]:
        """Check options, and find what a request with them goes on from."""
        options = as_sent(options)
        place = place_of(options.model, as_sent(origin))
        return options, await self._origins.look_at(place, "")

    @asynccontextmanager
    async def _opening(
        self,
        prompt: str,
        options: GenerateOptions,
        origin: Origin,
        timeout: float | None,
        *,
        is_streamed: bool,
    ) -> AsyncIterator[Text]:
        """Find what a request goes on from, keep a session for it, and translate the request."""
        self._check_open()
        call = LocalCall.within(timeout)
        prompt, options, origin = text_as_sent("prompt", prompt), as_sent(options), as_sent(origin)
        request = repr((prompt, options, origin)).encode()
        place = replace(place_of(options.model, origin), digest=digest_of(request))
        opened = self._texts.open(call, place, prompt, options, is_streamed=is_streamed)
        with named_as_options():
            async with opened as text:
                yield text

    def _describe(self, session: Session) -> SessionInfo:
        expires = self._sessions.expires(session)
        symbols = self.model.bundle.vocabulary.symbols
        return session_info(session, self.model.name, expires, symbols)

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError("this model is closed; load its folder again")


async def _give_way() -> None:
    """Leave a turn to other tasks, which a text that runs on this thread does not."""
    await asyncio.sleep(0)


def _sent(field: str, parse: Parse) -> Parse:
    """Translate texts as they would reach a server."""
    return lambda key, text: parse(key, text_as_sent(field, text))
