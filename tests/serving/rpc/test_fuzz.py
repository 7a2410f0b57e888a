"""Nothing that anybody sends makes a server or a parser fail in a way that is not foreseen.

UNROLL_FUZZ_INPUTS sets how many inputs are tried in all; `make fuzz` tries many.
"""

import hashlib
import hmac
import itertools
import json
import logging
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.serving.rpc.http2 import WINDOW, RawConnection
from tests.serving.running import PATIENCE, RunningServer, serve, wait_for
from tests.serving.sessions.test_capsule import ANNA, KEY, codec, contents
from training.settings import Cell
from unroll.bundle.folder import load_bundle
from unroll.bundle.manifest import MANIFEST
from unroll.errors import BundleError, CapsuleError
from unroll.v1 import text_generation_pb2 as pb

pytestmark = pytest.mark.slow

INPUTS = int(os.environ.get("UNROLL_FUZZ_INPUTS", "600"))
SERVICE = pb.DESCRIPTOR.services_by_name["TextGenerationService"]
METHODS = {method.name: method for method in SERVICE.methods}
# Every test below has a share; a call costs more than a parse.
SHARE = max(INPUTS // (2 * len(METHODS) + 4), 1)
TRIED = settings(
    max_examples=SHARE,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PLACES = st.integers(0, 2**32 - 1)  # modulo a length
# The last would be a hang.
FORBIDDEN = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}
# What a stack trace, a path or the repr of an object looks like; none is what a test may send.
LEAK = re.compile(
    r"Traceback|\.py\b|site-packages|/home/|/root/|/usr/|/tmp/|\w+Error\(|<class| at 0x[0-9a-f]{4}"
)

# Values that mean something, beside any at all.
TEXTS = st.sampled_from(["", "abc", "a\n£ h", "x", "first", "\0", "é" * 300]) | st.text(max_size=40)
INTEGERS = st.sampled_from([-1, 0, 1, 2, 7, 64, 65, 300, 2**31 - 1, -(2**31)])
TIMEOUTS = st.sampled_from([b"", b"99999999H", b"2562048H", b"1n", b"0S", b"-1S", b"x"])
WATCH = "/grpc.health.v1.Health/Watch"  # ends with the connection
PATHS = st.sampled_from(
    [
        *(f"/{SERVICE.full_name}/{name}" for name in METHODS),
        *(WATCH, "/grpc.health.v1.Health/Check", "/no/such", "/"),
    ]
)
FLOATS = st.sampled_from([0.0, 0.5, 1.0, -1.0, 1e-9, 1e9, float("nan"), float("inf")]) | st.floats(
    width=32
)


class Found:
    """Sessions and capsules that the server has given out, for requests to name.

    They change from one example to the next, so what is drawn must not hang on how many or how
    long they are: hypothesis replays choices and refuses a test whose choices have other ranges.
    """

    sessions: list[str]
    capsules: list[bytes]

    def __init__(self) -> None:
        self.sessions, self.capsules = ["of no server"], [b"of no server"]

    def keep(self, answer: Any) -> None:
        """Remember what an answer gave out."""
        for field, value in answer.ListFields():
            values = value if field.is_repeated else [value]
            for each in values:
                if field.name == "capsule":
                    self.capsules = [each, *self.capsules][:5]
                elif field.message_type is not None and field.message_type.name == "Session":
                    self.sessions = [each.id, *self.sessions][:5]
                elif field.message_type is not None:
                    self.keep(each)


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(f"first={tiny_bundles['gru']}", rate_per_caller=0, max_new_symbols=300) as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as made:
        yield made


@pytest.fixture(scope="module")
def found(channel: grpc.Channel) -> Found:
    kept = Found()
    for name, request in (
        ("StartSession", pb.StartSessionRequest(seed=3)),
        ("Generate", pb.GenerateRequest(prompt="abc", max_new_symbols=9, stop=["ab"])),
    ):
        attempt(channel, name, request.SerializeToString(), kept)
    assert kept.sessions
    assert kept.capsules
    return kept


def attempt(channel: grpc.Channel, name: str, data: bytes, found: Found) -> None:
    """Make a call with any bytes; it must answer, or refuse in a way that is foreseen."""
    method = METHODS[name]
    make = channel.unary_stream if method.server_streaming else channel.unary_unary
    call: Callable[..., Any] = make(f"/{SERVICE.full_name}/{name}")
    answers: list[bytes] = []
    refusal: grpc.RpcError | None = None
    try:
        made = call(data, timeout=PATIENCE)
        answers.extend(made if method.server_streaming else [made])
    except grpc.RpcError as error:
        refusal = error
    if refusal is not None:
        told = f"{refusal.code()}: {refusal.details()}"
        assert refusal.code() not in FORBIDDEN, told
        assert not LEAK.search(told), told
    kind = getattr(pb, method.output_type.name)
    for answer in answers:
        found.keep(kind.FromString(answer))


def value_of(field: Any, data: st.DataObject, found: Found) -> Any:
    """Draw a value of a field."""
    draw = data.draw
    if field.message_type is not None:
        return message_of(field.message_type, data, found)
    if field.name == "session" and draw(st.booleans()):
        return found.sessions[draw(PLACES) % len(found.sessions)]
    if field.name == "capsule" and draw(st.booleans()):
        return mutated(found.capsules[draw(PLACES) % len(found.capsules)], data, at_most=1)
    kinds: dict[int, SearchStrategy[Any]] = {
        FieldDescriptor.TYPE_STRING: TEXTS,
        FieldDescriptor.TYPE_BYTES: st.binary(max_size=200),
        FieldDescriptor.TYPE_BOOL: st.booleans(),
        FieldDescriptor.TYPE_FLOAT: FLOATS,
        FieldDescriptor.TYPE_ENUM: st.integers(-1, 5),
        FieldDescriptor.TYPE_INT32: INTEGERS | st.integers(-(2**31), 2**31 - 1),
        FieldDescriptor.TYPE_INT64: INTEGERS | st.integers(-(2**63), 2**63 - 1),
    }
    return draw(kinds[field.type])


def message_of(descriptor: Any, data: st.DataObject, found: Found) -> Any:
    """Draw a message, with any of its fields set to anything of their types."""
    message = getattr(pb, descriptor.name)()
    for field in descriptor.fields:
        if not data.draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = (value_of(each, data, found) for each in field.message_type.fields)
            getattr(message, field.name)[key] = value
        elif field.is_repeated:
            count = data.draw(st.sampled_from([1, 1, 2, 8, 9, 70]))
            getattr(message, field.name).extend([value_of(field, data, found)] * count)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(value_of(field, data, found))
        else:
            setattr(message, field.name, value_of(field, data, found))
    return message


def mutated(original: bytes, data: st.DataObject, at_most: int = 4) -> bytes:
    """Change, cut, repeat or insert a few bytes anywhere."""
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(0, at_most))):
        at = data.draw(PLACES) % (len(changed) + 1)
        end = at + data.draw(st.integers(0, 9))
        changed[at:end] = data.draw(st.binary(max_size=9) | st.just(bytes(changed[at:end]) * 2))
    return bytes(changed)


@pytest.mark.parametrize("name", METHODS)
def test_any_valid_message_is_answered_or_refused_with_a_reason(
    channel: grpc.Channel, found: Found, name: str
) -> None:
    @TRIED
    @given(st.data())
    def run(data: st.DataObject) -> None:
        message = message_of(METHODS[name].input_type, data, found)
        attempt(channel, name, message.SerializeToString(), found)

    run()


@pytest.mark.parametrize("name", ["ForkSession", "StartSession"])
def test_what_the_server_gave_out_does_not_change_what_is_drawn(name: str) -> None:
    found, lengths = Found(), itertools.cycle([1, 100, 7, 0])

    @TRIED
    @given(st.data())
    def run(data: st.DataObject) -> None:
        message_of(METHODS[name].input_type, data, found)
        found.sessions = ["a"] * (next(lengths) % 5 + 1)
        found.capsules = [bytes(next(lengths))] * (next(lengths) % 5 + 1)

    run()


@pytest.mark.parametrize("name", METHODS)
def test_any_bytes_are_answered_or_refused_with_a_reason(
    channel: grpc.Channel, found: Found, name: str
) -> None:
    base = pb.GenerateRequest(prompt="abc", max_new_symbols=9, stop=["a"], session="x")

    @TRIED
    @given(st.data())
    def run(data: st.DataObject) -> None:
        if data.draw(st.booleans()):
            request = data.draw(st.binary(max_size=300))
        else:
            request = mutated(base.SerializeToString(), data)
        attempt(channel, name, request, found)

    run()


@TRIED
@given(data=st.data())
def test_any_way_to_call_is_answered_or_hung_up_on(
    server: RunningServer, caplog: pytest.LogCaptureFixture, data: st.DataObject
) -> None:
    """Deadlines near and far, closed windows, messages that never end or are none, and hang-ups."""
    caplog.clear()
    whole = pb.GenerateRequest(prompt="abc", max_new_symbols=9).SerializeToString()
    framed = struct.pack(">BI", 0, len(whole)) + whole
    bodies = st.sampled_from([framed, framed[:-1], framed * 2]) | st.binary(max_size=40)
    kinds = st.tuples(PATHS, TIMEOUTS, bodies, st.booleans())
    calls = data.draw(st.lists(kinds, min_size=1, max_size=30))
    window, is_patient = data.draw(st.sampled_from([0, 1, WINDOW])), data.draw(st.booleans())
    with suppress(ConnectionError), RawConnection(server.address, window) as raw:
        for path, timeout, body, is_last in calls:
            stream = raw.begin(path, ((b"grpc-timeout", timeout),) if timeout else ())
            raw.send(stream, body, is_last=is_last)
        if window == WINDOW and is_patient:
            raw.read_ends(sum(is_last for path, *_, is_last in calls if path != WATCH))
    wait_for(lambda: not server.server.doors.gate.running)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_server_is_well_after_all_that(server: RunningServer, channel: grpc.Channel) -> None:
    attempt(channel, "Generate", pb.GenerateRequest(prompt="abc").SerializeToString(), Found())
    wait_for(lambda: not server.server.doors.gate.running)
    assert len(server.sequences()) == 0


@TRIED
@given(data=st.data(), is_signed=st.booleans())
def test_any_mutation_of_a_capsule_is_refused_or_opens(
    data: st.DataObject, is_signed: bool
) -> None:
    sealed = codec().seal(contents(), ANNA)
    capsule = mutated(sealed, data)
    if is_signed:
        body = mutated(sealed[: -hashlib.sha256().digest_size], data)
        capsule = body + hmac.new(KEY, body, hashlib.sha256).digest()
    told = ""
    try:
        codec().open(capsule, ANNA)
    except CapsuleError as error:
        told = str(error)
    assert not LEAK.search(told)


@pytest.fixture(scope="module")
def damaged(tiny_bundles: dict[Cell, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(tiny_bundles["lstm"], tmp_path_factory.mktemp("fuzz") / "bundle"))


def replaced(value: Any, data: st.DataObject) -> Any:
    """Replace one value anywhere in a JSON document."""
    if isinstance(value, dict | list) and value and data.draw(st.integers(0, 5)):
        key = data.draw(
            st.sampled_from(list(value) if isinstance(value, dict) else range(len(value)))
        )
        copy = value.copy()
        copy[key] = replaced(value[key], data)
        return copy
    scalars = st.none() | st.booleans() | INTEGERS | st.floats() | TEXTS
    return data.draw(
        scalars | st.lists(scalars, max_size=2) | st.dictionaries(TEXTS, scalars, max_size=2)
    )


@TRIED
@given(data=st.data())
def test_any_mutation_of_a_manifest_is_refused_or_loads(damaged: Path, data: st.DataObject) -> None:
    path = damaged / MANIFEST
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        changed = mutated(whole, data)
    else:
        changed = json.dumps(replaced(json.loads(whole), data)).encode()
    try:
        path.write_bytes(changed)
        load_bundle(damaged)
    except BundleError:
        pass
    finally:
        path.write_bytes(whole)


@TRIED
@given(data=st.data())
def test_any_mutation_of_a_bundles_file_is_refused(damaged: Path, data: st.DataObject) -> None:
    files = sorted(path for path in damaged.iterdir() if path.name != MANIFEST)
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    changed = mutated(whole, data)
    try:
        path.write_bytes(changed)
        if changed == whole:
            load_bundle(damaged)
        else:
            with pytest.raises(BundleError):
                load_bundle(damaged)
    finally:
        path.write_bytes(whole)
