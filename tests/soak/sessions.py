"""What clients do with a session, from its start to its end."""

import asyncio
from dataclasses import dataclass, replace

from tests.soak.account import TIMEOUT, Asker, Attempt, Claim
from tests.soak.plan import Asked, Kind, Step
from tests.soak.texts import MIDDLE, SHORT
from unroll.client.aio import AsyncClient
from unroll.client.faces.aio_session import AsyncSession
from unroll.errors import PositionError, SessionBusyError, SessionEndedError
from unroll.options import SessionOptions
from unroll.results import SessionInfo

MARKS = 4  # the server's default
LONGEST_REST = 0.3  # seconds between two requests


@dataclass
class Story:
    """A session, and what its text must be.

    Attributes:
        session: the client's.
        client: that started it.
        text: all of it.
        drawing: its seed and sampling parameters; prompt and length mean nothing.
        marks: positions that it can be put back to.
    """

    session: AsyncSession
    client: AsyncClient
    text: str
    drawing: Asked
    marks: list[int]

    def asked(self, step: Step, longest: int) -> Asked:
        """Draw the next request."""
        drawn = step.text(longest)
        return replace(self.drawing, prompt=drawn.prompt, new=drawn.new)

    def advance(self, asked: Asked, heard: Claim) -> None:
        """Take an answer in."""
        self.text += asked.prompt + heard.text
        self.marks = [*self.marks, len(self.text)][-MARKS:]


async def live(asker: Asker, step: Step) -> None:
    """Start a session, use it in every way and end it."""
    story = await _start(asker, step)
    if story is None:
        return
    for use in (_generate, _stream, _cancel, _fork, _rewind, _score, _describe):
        await asyncio.sleep(step.seconds(0.0, LONGEST_REST))
        if not await use(asker, step, story):
            return
    await _end(asker, story)


async def _start(asker: Asker, step: Step) -> Story | None:
    drawing, client = step.text(1), asker.clients[step.below(2)]
    sampling = drawing.sampling
    options = SessionOptions(
        seed=drawing.seed,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
    )
    async with asker.doing(Kind.START) as attempt:
        session = await attempt.persist(lambda: client.start_session(options, timeout=TIMEOUT))
        return Story(session, client, "", drawing, [0])
    return None


async def _generate(asker: Asker, step: Step, story: Story) -> bool:
    """Wait for a whole answer; then ask for it once more, as if it had been lost."""
    asked, before = story.asked(step, SHORT), story.text
    async with asker.doing(Kind.SESSION_GENERATE) as attempt:
        await _answer(attempt, story, asked, is_streamed=False)
    if not attempt.is_done:
        return False
    async with asker.doing(Kind.REPLAY) as again:

        async def ask() -> None:
            answer = await story.client.generate(
                asked.prompt,
                asked.options(is_in_session=True),
                session=story.session.session_id,
                expected_position=len(before),
                timeout=TIMEOUT,
            )
            again.hear(before, asked).take(answer)

        await again.persist(ask, SessionBusyError)
    return again.is_done


async def _stream(asker: Asker, step: Step, story: Story) -> bool:
    asked = story.asked(step, MIDDLE)
    async with asker.doing(Kind.SESSION_STREAM) as attempt:
        await _answer(attempt, story, asked, is_streamed=True)
    return attempt.is_done


async def _cancel(asker: Asker, step: Step, story: Story) -> bool:
    """Cancel an answer; then ask for it again, to the end."""
    asked = story.asked(step, MIDDLE)
    async with asker.doing(Kind.SESSION_CANCEL) as attempt:

        async def begin() -> Claim:
            options = asked.options(is_in_session=True)
            pieces = story.session.stream(asked.prompt, options, timeout=TIMEOUT)
            heard = attempt.hear(story.text, asked)
            await heard.read(pieces, at_most=1)
            return heard

        begun = await attempt.persist(begin, SessionBusyError)
        if begun.finish is not None:  # all of it was in the first piece
            story.advance(asked, begun)
        else:
            await _answer(attempt, story, asked, is_streamed=True)
    return attempt.is_done


async def _fork(asker: Asker, step: Step, story: Story) -> bool:
    """Fork the session, let each fork write on and end it."""
    seeds = [step.seed(), step.seed()]
    texts = [step.text(SHORT) for _ in seeds]
    async with asker.doing(Kind.FORK) as attempt:
        forks = await attempt.persist(
            lambda: story.session.fork(seeds, timeout=TIMEOUT), SessionBusyError
        )
        for session, seed, drawn in zip(forks, seeds, texts, strict=True):
            drawing = replace(story.drawing, seed=seed)
            fork = Story(session, story.client, story.text, drawing, [len(story.text)])
            asked = replace(drawing, prompt=drawn.prompt, new=drawn.new)
            await _answer(attempt, fork, asked, is_streamed=True)
            await _end(asker, fork)
    return attempt.is_done


async def _rewind(asker: Asker, step: Step, story: Story) -> bool:
    """Put the session back, and let it go on another way."""
    position, asked = step.choice(story.marks), story.asked(step, SHORT)
    async with asker.doing(Kind.REWIND) as attempt:
        await attempt.persist(
            lambda: story.session.rewind(position, timeout=TIMEOUT), SessionBusyError
        )
        story.text = story.text[:position]
        story.marks = [mark for mark in story.marks if mark <= position]
        await _answer(attempt, story, asked, is_streamed=True)
    return attempt.is_done


async def _score(asker: Asker, step: Step, story: Story) -> bool:
    asked = replace(story.drawing, prompt=step.symbols(1 + step.below(SHORT)))
    async with asker.doing(Kind.SESSION_SCORE) as attempt:
        scored = await attempt.persist(lambda: story.session.score(asked.prompt, timeout=TIMEOUT))
        attempt.score(story.text, asked, scored)
    return attempt.is_done


async def _describe(asker: Asker, step: Step, story: Story) -> bool:
    async with asker.doing(Kind.DESCRIBE) as attempt:
        info = await attempt.persist(lambda: story.session.describe(timeout=TIMEOUT))
        attempt.expect(_is_told(story, info), f"stands at {info}, not {story.marks}")
    return attempt.is_done


def _is_told(story: Story, info: SessionInfo) -> bool:
    told = info.position, info.seed, list(info.marks)
    return told == (len(story.text), story.drawing.seed, story.marks)


async def _end(asker: Asker, story: Story) -> None:
    async with asker.doing(Kind.END) as attempt:

        async def end() -> None:
            try:
                await story.session.end(timeout=TIMEOUT)
            except SessionEndedError as error:  # by an earlier try whose answer was lost
                attempt.expect(bool(attempt.failures), str(error))

        await attempt.persist(end, SessionBusyError)


async def _answer(attempt: Attempt, story: Story, asked: Asked, *, is_streamed: bool) -> None:
    """Ask for the session's next text until there is an answer, and take it in."""
    before = len(story.text)
    options = asked.options(is_in_session=True)

    async def ask() -> Claim:
        heard = attempt.hear(story.text, asked)
        try:
            if is_streamed:
                await heard.read(story.session.stream(asked.prompt, options, timeout=TIMEOUT))
            else:
                heard.take(await story.session.generate(asked.prompt, options, timeout=TIMEOUT))
        except PositionError as error:
            # A server that drained has cut the answer, and its last message was lost.
            inside = before < error.actual < before + len(asked.prompt) + asked.new
            attempt.expect(inside, f"from {before} to {error.actual}, asked for {asked}")
            await story.session.rewind(before, timeout=TIMEOUT)
            raise
        return heard

    story.advance(asked, await attempt.persist(ask, SessionBusyError, PositionError))
