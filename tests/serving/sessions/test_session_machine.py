"""Any interleaving of start, generate, fork, rewind, capsule, spill, evict and restart.

Every session says what its whole text so far, read from the start, would make a lone sequence say.
"""

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle as Drawn
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from serving.runtime.decoder import Decoder
from serving.runtime.onnx import Device
from serving.sessions.cached_store import CachedStore
from serving.settings import ServerSettings
from tests.conftest import TINY_SYMBOLS
from tests.serving.engine.harness import alone, request
from tests.serving.running import RunningServer, wait_for
from training.settings import Cell
from unroll.bundle.folder import load_bundle
from unroll.client.client import Client
from unroll.options import GenerateOptions

pytestmark = pytest.mark.slow

KEY = "5a" * 32
PROMPTS = st.text(TINY_SYMBOLS, max_size=40)
SEEDS = st.integers(0, 2**63 - 1)


@dataclass(frozen=True)
class Told:
    """What is known of a text: all of it, and the seed in force."""

    text: str
    seed: int


@dataclass
class Held:
    """A session and what should be true of it at each of its marks."""

    session_id: str
    marks: list[Told]


class Sessions(RuleBasedStateMachine):
    """Drives a real server through the client; the server is restarted now and then."""

    sessions = Drawn("sessions")
    capsules = Drawn("capsules")

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    @initialize()
    def begin(self) -> None:
        self.served = load_bundle(self.folder)
        self.decoder = Decoder(self.served, Device.CPU)
        self.state_dir = Path(tempfile.mkdtemp())
        (self.state_dir / "keys").write_text(KEY, encoding="ascii")
        self.start_server()

    def start_server(self) -> None:
        self.server = RunningServer(
            ServerSettings(
                model=(str(self.folder),),
                port=0,
                slots=2,
                sessions_in_memory=2,
                session_marks=3,
                state_dir=self.state_dir / "sessions",
                capsule_keys=self.state_dir / "keys",
            )
        )
        self.server.__enter__()
        self.client = Client(self.server.address)

    def stop_server(self) -> None:
        self.client.close()
        self.server.__exit__()

    def teardown(self) -> None:
        if hasattr(self, "server"):
            self.stop_server()
            shutil.rmtree(self.state_dir)

    def go_on(self, known: Told, prompt: str, symbols: int) -> Told:
        """Return what the text is after a request, and keep what the answer must be."""
        vocabulary = self.served.vocabulary
        asked = request(vocabulary, known.text + prompt, symbols, seed=known.seed)
        self.expected = alone(self.decoder, vocabulary, asked)
        return replace(known, text=known.text + prompt + self.expected.text)

    @rule(target=sessions, seed=SEEDS)
    def start(self, seed: int) -> Held:
        options = GenerateOptions(max_new_symbols=1, seed=seed, log_probs=True)
        session = self.client.start_session()
        first = session.generate("", options)
        known = self.go_on(Told(text="", seed=seed), "", 1)
        assert first.text == self.expected.text
        return Held(session.session_id, [known])

    @rule(target=capsules, held=sessions, prompt=PROMPTS, symbols=st.integers(1, 30))
    def generate(self, held: Held, prompt: str, symbols: int) -> tuple[bytes, Told]:
        known = self.go_on(held.marks[-1], prompt, symbols)
        session = self.client.get_session(held.session_id)
        options = GenerateOptions(max_new_symbols=symbols, log_probs=True)
        answer = session.generate(prompt, options)
        assert (answer.text, tuple(answer.log_probs)) == (
            self.expected.text,
            self.expected.log_probs,
        )
        held.marks = [*held.marks, known][-3:]
        return answer.capsule, known

    @rule(target=capsules, capsule=capsules, prompt=PROMPTS, symbols=st.integers(1, 30))
    def use_capsule(
        self, capsule: tuple[bytes, Told], prompt: str, symbols: int
    ) -> tuple[bytes, Told]:
        sealed, known = capsule
        known = self.go_on(known, prompt, symbols)
        options = GenerateOptions(max_new_symbols=symbols, log_probs=True)
        answer = self.client.generate(prompt, options, capsule=sealed)
        assert (answer.text, tuple(answer.log_probs)) == (
            self.expected.text,
            self.expected.log_probs,
        )
        return answer.capsule, known

    @rule(target=sessions, held=sessions, seeds=st.lists(SEEDS, min_size=1, max_size=2))
    def fork(self, held: Held, seeds: list[int]) -> object:
        forks = self.client.get_session(held.session_id).fork(seeds)
        known = held.marks[-1]
        return multiple(
            *[
                Held(fork.session_id, [replace(known, seed=seed)])
                for fork, seed in zip(forks, seeds, strict=True)
            ]
        )

    @rule(held=sessions, back=st.integers(0, 2))
    def rewind(self, held: Held, back: int) -> None:
        kept = held.marks[: max(len(held.marks) - back, 1)]
        self.client.get_session(held.session_id).rewind(len(kept[-1].text))
        held.marks = kept

    @rule(held=sessions)
    def describe(self, held: Held) -> None:
        told = self.client.get_session(held.session_id).describe()
        assert told.position == len(held.marks[-1].text)
        assert list(told.marks)[-len(held.marks) :] == [len(mark.text) for mark in held.marks]

    @rule()
    def spill(self) -> None:
        store = self.server.server._store
        assert isinstance(store, CachedStore)
        self.server.loop.call_soon_threadsafe(store.spill, float("inf"))
        wait_for(lambda: len(store) == 0)

    @rule()
    def restart(self) -> None:
        self.stop_server()
        self.start_server()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_every_session_says_what_its_text_alone_would(
    cell: Cell, tiny_bundles: dict[Cell, Path]
) -> None:
    run_state_machine_as_test(
        lambda: Sessions(tiny_bundles[cell]),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=5,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
