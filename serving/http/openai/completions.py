"""`/v1/completions`: texts for clients of OpenAI."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace

import numpy as np

from serving.http.call import HttpCall
from serving.http.openai.answers import DONE, EVENTS, Answer, Echo, dumps, event
from serving.http.openai.bodies import Choice, WithUsage
from serving.http.openai.request import CompletionRequest, Prompt, read
from serving.texts.alternatives import alternatives_of
from serving.texts.given.fields import Fields, read_object
from serving.texts.loop import one_error, translate
from serving.texts.text import Part, Text, Texts

# Bytes of a symbol with its log-probability and offset in JSON, for one of our messages.
JSON_WEIGHT = 16
QUIET_SECONDS = 15.0  # after which a stream without news sends a comment, so that proxies keep it
COMMENT = b": the text is on its way\n\n"
NO_ECHO = Echo(symbols="", log_probs=np.zeros(0, np.float32))


class Completions:
    """Answers requests for completions.

    Args:
        texts: that it opens.
    """

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    async def handle(self, call: HttpCall, body: bytes) -> None:
        """Answer a call."""
        request = read(Fields(read_object("request", body)))
        answer = Answer(call, log_probs=request.options.log_probs)
        async with self._opened(call, request) as texts:
            echoes = [
                await _echo(text, request, prompt)
                for text, prompt in zip(texts, request.prompts, strict=True)
            ]
            for text in texts:
                answer.count_prompt(text)
            if not request.is_streamed:
                choices = await _wholes(request, texts, echoes, answer)
                whole = answer.body(texts[0], choices, usage=answer.usage)
                symbols = call.symbols_written + call.symbols_read
                data = await translate(symbols * (1 + request.options.top_log_probs), dumps, whole)
                await call.answer(200, data)
                return
            await _stream(call, request, texts, echoes, answer)

    @asynccontextmanager
    async def _opened(
        self, call: HttpCall, request: CompletionRequest
    ) -> AsyncIterator[list[Text]]:
        """Open a text for each prompt."""
        prompts, weight = request.prompts, JSON_WEIGHT if request.options.log_probs else 1
        is_streamed = request.is_streamed and not request.reads_only
        desk = self._texts if is_streamed else self._texts.sharing(len(prompts) * weight)
        more = len(prompts) - 1
        with call.hold(more) if more else nullcontext():
            async with AsyncExitStack() as stack:
                yield [
                    await stack.enter_async_context(
                        desk.open(
                            call,
                            request.place,
                            prompt,
                            request.options,
                            is_streamed=is_streamed,
                            logit_bias=request.logit_bias,
                        )
                    )
                    for prompt in prompts
                ]


async def _echo(text: Text, request: CompletionRequest, prompt: Prompt) -> Echo:
    """Return what of a text's prompt belongs to its answer."""
    if not request.echo:
        return NO_ECHO
    ids, vocabulary = text.parsed.request.prompt, text.origin.model.bundle.vocabulary
    symbols = vocabulary.decode(ids.tolist())
    is_at_start = not isinstance(prompt, str) and text.origin.begins(prompt)
    start = vocabulary.start_symbol if is_at_start else ""
    echo = Echo(symbols=symbols, log_probs=NO_ECHO.log_probs, start=start)
    if not symbols or not request.options.log_probs or request.reads_only:
        return echo  # what is wanted comes with the answer
    chunk = await text.read()
    alternatives = alternatives_of(chunk.likeliest, vocabulary)
    return replace(echo, log_probs=chunk.log_probs, alternatives=alternatives)


async def _wholes(
    request: CompletionRequest,
    texts: list[Text],
    echoes: list[Echo],
    answer: Answer,
) -> list[Choice]:
    """Return all choices, once all have ended."""
    async with one_error(), asyncio.TaskGroup() as group:
        tasks = [group.create_task(text.wholes()) for text in texts]
    return [
        answer.choice(text, part, prompt * request.samples + part.index, echo)
        for prompt, (text, task, echo) in enumerate(zip(texts, tasks, echoes, strict=True))
        for part in task.result()
    ]


async def _stream(
    call: HttpCall,
    request: CompletionRequest,
    texts: list[Text],
    echoes: list[Echo],
    answer: Answer,
) -> None:
    """Send the pieces of all choices as they come."""
    call.stream_headers = [("content-type", EVENTS), ("cache-control", "no-cache")]
    call.encode = event
    more: WithUsage = {"usage": None} if request.wants_usage else {}
    turn, news = asyncio.Lock(), asyncio.Event()

    async def follow(prompt: int) -> None:
        text, echo = texts[prompt], echoes[prompt]

        async def send(part: Part) -> None:
            index = prompt * request.samples + part.index
            async with turn:
                news.set()
                choice = answer.choice(text, part, index, echo)
                await call.write(answer.body(text, [choice], **more))

        if request.reads_only:
            for part in await text.wholes():
                await send(part)
        else:
            await text.stream(send)

    async with one_error(), asyncio.TaskGroup() as group:
        commenting = group.create_task(_comment(call, turn, news))
        async with one_error(), asyncio.TaskGroup() as following:
            for prompt in range(len(texts)):
                following.create_task(follow(prompt))
        commenting.cancel()
    if request.wants_usage:
        await call.write(answer.body(texts[0], [], usage=answer.usage))
    await call.write_raw(DONE)
    await call.end()


async def _comment(call: HttpCall, turn: asyncio.Lock, news: asyncio.Event) -> None:
    """Send a comment each time that nothing was sent for a while."""
    while True:
        news.clear()
        await asyncio.sleep(QUIET_SECONDS)
        if not news.is_set():
            async with turn:
                await call.write_raw(COMMENT)
