"""The calls with many texts."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing
from dataclasses import replace
from itertools import islice
from operator import attrgetter
from typing import Any, TypeVar

from serving.access.call import Call
from serving.access.gate import MESSAGE_SECONDS
from serving.rpc.answers import write_answer, write_score
from serving.rpc.session_servicer import SessionServicer
from serving.rpc.translation import read_generate, read_place, read_score
from serving.texts.constraint import constrain
from serving.texts.many.item import Item
from serving.texts.many.many import Many
from serving.texts.origins import Origin
from serving.texts.parse.each import Parse, each_generate, each_score
from serving.texts.parse.generate import Parsed
from serving.texts.text import Text
from unroll.errors import InputError
from unroll.terms import ITEMS_AT_MOST, Capsules
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import write_item_error

Request = TypeVar("Request", pb.GenerateManyRequest, pb.ScoreManyRequest)
A = TypeVar("A", pb.GenerateAnswer, pb.ScoreAnswer)
AT_ONCE = 64  # texts that the event loop translates before it does something else
ANSWER_BYTES = 2**18  # that are gathered in one message


class ManyServicer(SessionServicer):
    """Generates and scores many texts a call; made as its base."""

    async def GenerateMany(  # noqa: N802
        self, requests: AsyncIterator[pb.GenerateManyRequest], call: Call
    ) -> AsyncGenerator[pb.GenerateManyResponse]:
        """Continue prompts as they come."""
        first = await _first(requests)
        if first.common.prompt:
            raise InputError("common.prompt", "must be empty; prompts are in `items`")
        origin = await self._origin_of(first.common, call)
        options = read_generate(first.common)
        if not first.common.capsules:  # unspecified: of a million texts nobody wants them
            options = replace(options, capsules=Capsules.NEVER)
        constraint = await constrain(options, origin, self._origins.automata, call.account)
        parse = each_generate(options, origin, self._limits, call, constraint)

        def write(item: Item) -> pb.GenerateAnswer:
            if item.error is not None:
                return pb.GenerateAnswer(key=item.key, error=write_item_error(item.error))
            parsed, chunk = item.outcome
            text = Text(self._origins, origin, parsed, call)
            part = text.part(parsed.request, 0, chunk)
            return pb.GenerateAnswer(key=item.key, response=write_answer(text, part))

        many = Many(
            origin.model.engine, _noting(parse, call), in_order=first.in_order, hold=call.hold
        )
        feeding = _feed(many, first, requests, attrgetter("key", "prompt"))
        async with aclosing(_ended(many, feeding)) as ended:
            async for items in ended:
                for answers in self._gathered(map(write, items)):
                    yield pb.GenerateManyResponse(answers=answers)

    async def ScoreMany(  # noqa: N802
        self, requests: AsyncIterator[pb.ScoreManyRequest], call: Call
    ) -> AsyncGenerator[pb.ScoreManyResponse]:
        """Score texts as they come."""
        first = await _first(requests)
        if first.common.text:
            raise InputError("common.text", "must be empty; texts are in `items`")
        origin = await self._origin_of(first.common, call)
        parse = each_score(read_score(first.common), origin, self._limits, call)

        def write(item: Item) -> pb.ScoreAnswer:
            if item.error is not None:
                return pb.ScoreAnswer(key=item.key, error=write_item_error(item.error))
            parsed, chunk = item.outcome
            response = write_score(parsed, chunk, origin.model)
            return pb.ScoreAnswer(key=item.key, response=response)

        many = Many(
            origin.model.engine, _noting(parse, call), in_order=first.in_order, hold=call.hold
        )
        feeding = _feed(many, first, requests, attrgetter("key", "text"))
        async with aclosing(_ended(many, feeding)) as ended:
            async for items in ended:
                for answers in self._gathered(map(write, items)):
                    yield pb.ScoreManyResponse(answers=answers)

    async def _origin_of(self, common: pb.GenerateRequest | pb.ScoreRequest, call: Call) -> Origin:
        if common.session:
            raise InputError(
                "common.session", "must be empty: many texts cannot continue one session"
            )
        origin = await self._origins.look_at(read_place(common), call.identity)
        call.model = origin.model.name
        return origin

    def _gathered(self, answers: Iterator[A]) -> Iterator[list[A]]:
        """Gather answers as far as one message holds them."""
        gathered: list[A] = []
        size = 0
        for answer in answers:
            more = answer.ByteSize()
            if gathered and size + more > min(ANSWER_BYTES, self._limits.message // 2):
                yield gathered
                gathered, size = [], 0
            gathered.append(answer)
            size += more
        yield gathered


async def _first(requests: AsyncIterator[Request]) -> Request:
    """Return the first request of a call.

    Raises:
        InputError: there is none, or it does not say what all texts have in common.
    """
    try:
        async with asyncio.timeout(MESSAGE_SECONDS):
            first = await anext(requests, None)
    except TimeoutError as error:
        raise InputError(
            "request", f"did not arrive within {MESSAGE_SECONDS:g} s; send it at once"
        ) from error
    if first is None or not first.HasField("common"):
        raise InputError("common", "must be in the first request; it may be empty")
    return first


def _noting(parse: Parse, call: Call) -> Parse:
    """Translate texts and note how many symbols the call has read."""

    def parse_and_note(key: int, text: str) -> Parsed:
        if key < 0:
            raise InputError("key", f"must be 0 or more, got {key}")
        parsed = parse(key, text)
        call.symbols_read += len(parsed.request.prompt)
        return parsed

    return parse_and_note


async def _feed(
    many: Many,
    first: Request,
    requests: AsyncIterator[Request],
    text_of: Callable[[Any], tuple[int, str]],
) -> None:
    """Put the items of a call's requests as there is room for them."""
    request: Request | None = first
    try:
        while request is not None:
            if len(request.items) > ITEMS_AT_MOST:
                raise InputError(
                    "items",
                    f"must be at most {ITEMS_AT_MOST} in one request, got {len(request.items)}",
                )
            texts = map(text_of, request.items)
            while batch := list(islice(texts, min(await many.wait_for_room(), AT_ONCE))):
                many.put(batch)
                await asyncio.sleep(0)
            request = await anext(requests, None)
            if request is not None and (request.HasField("common") or request.in_order):
                raise InputError("common", "and `in_order` may only be in the first request")
        many.complete()
    except Exception as error:
        many.complete(error)


async def _ended(many: Many, feeding: Coroutine[None, None, None]) -> AsyncGenerator[list[Item]]:
    """Yield the items that have ended, while others are put; cancel what is left."""
    task = asyncio.ensure_future(feeding)
    try:
        while items := await many.take():
            yield items
    finally:
        task.cancel()
        many.close()
        await asyncio.gather(task, return_exceptions=True)
