"""What clients do with a session, from its start to its end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from tests.soak.account import OPERATIONS, TIMEOUT, Asker, Attempt, Claim
from tests.soak.plan import Asked, Kind, Step
from tests.soak.texts import MIDDLE, SHORT
from unroll.client.aio import AsyncClient
from unroll.client.faces.aio_session import AsyncSession
from unroll.errors import PositionError, SessionBusyError, SessionEndedError

MARKS = 4  # the server's default
LONGEST_REST = 0.3  # seconds between two requests


@dataclass
class Story:
    """A session, and what its text must be."""

    session: AsyncSession
    client: AsyncClient  # that started it
    text: str  # all of it
    drawing: Asked  # its seed and sampling parameters; prompt and length mean nothing
    marks: list[int]  # positions that it can be put back to
    last: Asked | None = None  # the last request

    def asked(self, step: Step, longest: int) -> Asked:
        """Draw the next request."""
        drawn = step.text(longest)
        return replace(self.drawing, prompt=drawn.prompt, new=drawn.new)

    def advance(self, asked: Asked, heard: Claim) -> None:
        """Take an answer in."""
        self.last = asked
        self.text += asked.prompt + heard.text
        self.marks = [*self.marks, len(self.text)][-MARKS:]

    async def answer(self, attempt: Attempt, asked: Asked, *, is_streamed: bool = True) -> None:
        """Ask for the session's next text until there is an answer, and take it in."""
        before = len(self.text)

        async def ask() -> Claim:
            heard, told = attempt.hear(self.text, asked), (asked.prompt, asked.in_session)
            try:
                if is_streamed:
                    await heard.read(self.session.stream(*told, timeout=TIMEOUT))
                else:
                    heard.take(await self.session.generate(*told, timeout=TIMEOUT))
            except PositionError as error:
                # A server that drained has cut the answer, and its last message was lost.
                inside = before < error.actual < before + len(asked.prompt) + asked.new
                attempt.expect(inside, f"from {before} to {error.actual}, asked for {asked}")
                await self.session.rewind(before, timeout=TIMEOUT)
                raise
            return heard

        self.advance(asked, await attempt.persist(ask, SessionBusyError, PositionError))

    async def end(self, asker: Asker) -> None:
        async with asker.doing(Kind.END) as attempt:

            async def end() -> None:
                try:
                    await self.session.end(timeout=TIMEOUT)
                except SessionEndedError as error:  # by an earlier try whose answer was lost
                    attempt.expect(bool(attempt.failures), str(error))

            await attempt.persist(end, SessionBusyError)


Use = Callable[[Asker, Step, Attempt, Story], Awaitable[None]]


async def live(asker: Asker, step: Step) -> None:
    """Start a session, use it in every way and end it; the first use that fails is the last."""
    drawing, client = step.text(1), step.chance.choice(asker.clients)
    async with asker.doing(Kind.START) as attempt:
        session = await attempt.persist(
            lambda: client.start_session(drawing.start, timeout=TIMEOUT)
        )
        story = Story(session, client, "", drawing, [0])
    for kind, use in USES.items():
        if not attempt.is_done:
            return
        await asyncio.sleep(step.chance.uniform(0.0, LONGEST_REST))
        async with asker.doing(kind) as attempt:
            await use(asker, step, attempt, story)
    if attempt.is_done:
        await story.end(asker)


async def _generate(asker: Asker, step: Step, attempt: Attempt, story: Story) -> None:
    await story.answer(attempt, story.asked(step, SHORT), is_streamed=False)


async def _replay(asker: Asker, step: Step, attempt: Attempt, story: Story) -> None:
    """Ask once more for the first answer, as if it had been lost."""
    asked = story.last
    assert asked is not None

    async def ask() -> None:
        answer = await story.client.generate(
            asked.prompt, asked.in_session, session=story.session.session_id,
            expected_position=0, timeout=TIMEOUT,
        )  # fmt: skip
        attempt.hear("", asked).take(answer)

    await attempt.persist(ask, SessionBusyError)


async def _stream(asker: Asker, step: Step, attempt: Attempt, story: Story) -> None:
    await story.answer(attempt, story.asked(step, MIDDLE))


async def _cancel(asker: Asker, step: Step, attempt: Attempt, story: Story) -> None:
    """Cancel an answer; then ask for it again, to the end."""
    asked = story.asked(step, MIDDLE)

    async def begin() -> Claim:
        pieces = story.session.stream(asked.prompt, asked.in_session, timeout=TIMEOUT)
        heard = attempt.hear(story.text, asked)
        await heard.read(pieces, at_most=1)
        return heard

    begun = await attempt.persist(begin, SessionBusyError)
    if begun.finish is not None:  # all of it was in the first piece
        story.advance(asked, begun)
    else:
        await story.answer(attempt, asked)


async def _fork(asker: Asker, step: Step, attempt: Attempt, story: Story) -> None:
    """Fork the session, let each fork write on and end it."""
    drawn = [step.text(SHORT), step.text(SHORT)]
    seeds = [each.seed for each in drawn]
    forks = await attempt.persist(
        lambda: story.session.fork(seeds, timeout=TIMEOUT), SessionBusyError
    )
    for session, each in zip(forks, drawn, strict=True):
        asked = replace(each, sampling=story.drawing.sampling)
        fork = Story(session, story.client, story.text, asked, [len(story.text)])
        await fork.answer(attempt, asked)
        await fork.end(asker)


async def _rewind(asker: Asker, step: Step, attempt: Attempt, story: Story) -> None:
    """Put the session back, and let it go on another way."""
    position, asked = step.chance.choice(story.marks), story.asked(step, SHORT)
    await attempt.persist(lambda: story.session.rewind(position, timeout=TIMEOUT), SessionBusyError)
    story.text = story.text[:position]
    story.marks = [mark for mark in story.marks if mark <= position]
    await story.answer(attempt, asked)


async def _score(asker: Asker, step: Step, attempt: Attempt, story: Story) -> None:
    asked = replace(story.drawing, prompt=step.symbols(step.chance.randint(1, SHORT)))
    scored = await attempt.persist(lambda: story.session.score(asked.prompt, timeout=TIMEOUT))
    attempt.score(story.text, asked, scored)


async def _describe(asker: Asker, step: Step, attempt: Attempt, story: Story) -> None:
    info = await attempt.persist(lambda: story.session.describe(timeout=TIMEOUT))
    told = info.position, info.seed, list(info.marks)
    wanted = len(story.text), story.drawing.seed, story.marks
    attempt.expect(told == wanted, f"stands at {info}, not {wanted}")


USES: dict[Kind, Use] = {
    Kind.SESSION_GENERATE: _generate,
    Kind.REPLAY: _replay,
    Kind.SESSION_STREAM: _stream,
    Kind.SESSION_CANCEL: _cancel,
    Kind.FORK: _fork,
    Kind.REWIND: _rewind,
    Kind.SESSION_SCORE: _score,
    Kind.DESCRIBE: _describe,
}
OPERATIONS[Kind.START] = live
