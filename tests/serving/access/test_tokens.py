"""Tokens: who is let in, what a refusal tells, and a file that changes while the server runs."""

import asyncio
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.access.tokens import NewToken, Tokens, issue
from tests.serving.rpc.health import SERVING, check_health
from tests.serving.running import PATIENCE, RunningServer, serve, wait_for
from tests.unroll.client.stub import refused
from training.settings import Cell
from unroll.client.aio import AsyncClient
from unroll.client.client import Client
from unroll.client.commands import ask as commands
from unroll.client.remote.security import TOKEN_VARIABLE, Security
from unroll.errors import (
    AuthenticationError,
    InputError,
    RateError,
    SessionLimitError,
    SessionUnknownError,
    SettingsError,
    UnrollError,
)
from unroll.options import GenerateOptions
from unroll.v1 import text_generation_pb2 as pb
from unroll.v1.text_generation_pb2_grpc import TextGenerationServiceStub

ASKED = GenerateOptions(max_new_symbols=20, seed=3)
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@dataclass(frozen=True)
class Guarded:
    """A server that asks for tokens, its file of them, and two of them."""

    running: RunningServer
    file: Path
    anna: str
    bert: str

    def client(self, token: str) -> Client:
        return Client(self.running.address, security=Security(token=token))

    def generate(self, token: str) -> str:
        with self.client(token) as client:
            return client.generate("abc", ASKED, timeout=PATIENCE).text


@pytest.fixture
def guarded(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> Iterator[Guarded]:
    file = tmp_path / "tokens"
    anna, bert = (issue(NewToken(name=name, file=file)) for name in ("anna", "bert"))
    asked = {"tokens": file, "max_sessions_per_caller": 3, "rate_without_token": 0.0}
    with serve(str(tiny_bundles["gru"]), **asked) as running:
        yield Guarded(running, file, anna, bert)


def test_both_clients_send_their_token(guarded: Guarded) -> None:
    text = guarded.generate(guarded.anna)

    async def stream() -> str:
        security = Security(token=guarded.bert)
        async with AsyncClient(guarded.running.address, security=security) as client:
            return "".join([piece.text async for piece in client.stream("abc", ASKED)])

    assert asyncio.run(stream()) == text


def metadata_of_strangers(token: str) -> list[tuple[tuple[str, str], ...]]:
    return [
        (),
        (("authorization", ""),),
        (("authorization", token),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer "),),
        (("authorization", f"Basic {token}"),),
        (("authorization", f"Bearer {token[:-1]}"),),
        (("authorization", f"Bearer {token}x"),),
        (("authorization", f"Bearer {token.swapcase()}"),),
        (("authorization", "Bearer " + "x" * 5000),),
        (("authorization", "Bearer anna"),),
        (("authorization", f"Bearer {hashlib.sha256(token.encode()).hexdigest()}"),),
        (("x-authorization", f"Bearer {token}"),),
    ]


def test_no_call_is_answered_without_a_valid_token_and_all_refusals_are_alike(
    guarded: Guarded,
) -> None:
    told = set()
    with grpc.insecure_channel(guarded.running.address) as channel:
        for metadata in metadata_of_strangers(guarded.anna):
            for method in pb.DESCRIPTOR.services_by_name["TextGenerationService"].methods:
                path = f"/{method.containing_service.full_name}/{method.name}"
                make: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
                with pytest.raises(grpc.RpcError) as caught:
                    list(make(path)(b"\xff", metadata=metadata, timeout=PATIENCE))
                told.add((caught.value.code(), caught.value.details()))
            reflect: Any = channel.stream_stream(REFLECT)
            reflecting = reflect(iter([b""]), metadata=metadata)
            with pytest.raises(grpc.RpcError) as caught:
                list(reflecting)
            told.add((caught.value.code(), caught.value.details()))
    assert [code for code, _ in told] == [grpc.StatusCode.UNAUTHENTICATED]


def test_health_needs_no_token(guarded: Guarded) -> None:
    with grpc.insecure_channel(guarded.running.address) as channel:
        assert check_health(channel) == SERVING


def test_refusal_is_typed_and_names_no_token(guarded: Guarded) -> None:
    with pytest.raises(AuthenticationError) as caught:
        guarded.generate("a-wrong-token")
    assert "a-wrong-token" not in str(caught.value)
    with grpc.insecure_channel(guarded.running.address) as channel, refused("UNAUTHENTICATED"):
        TextGenerationServiceStub(channel).Generate(pb.GenerateRequest(), timeout=PATIENCE)


def test_log_names_the_caller_and_a_refusal_has_the_request_s_id(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "serving.access"):
        guarded.generate(guarded.anna)
        with pytest.raises(AuthenticationError) as caught:
            guarded.generate("no token of this server")
        wait_for(lambda: len(caplog.records) == 2)
    answered, refusal = caplog.records
    assert answered.__dict__["caller"] == "token:anna"
    assert refusal.__dict__["code"] == "UNAUTHENTICATED"
    assert refusal.__dict__["request_id"] == caught.value.request_id != ""


def test_revoked_token_is_refused_at_the_next_call_and_a_new_one_let_in(guarded: Guarded) -> None:
    with guarded.client(guarded.anna) as anna, guarded.client(guarded.bert) as bert:
        assert anna.generate("abc", ASKED).text
        lines = guarded.file.read_text(encoding="utf-8").splitlines(keepends=True)
        guarded.file.write_text("".join(lines[1:]), encoding="utf-8")
        with pytest.raises(AuthenticationError):  # on a connection that is open
            anna.generate("abc", ASKED)
        assert bert.generate("abc", ASKED).text
        again = issue(NewToken(name="anna", file=guarded.file))
        assert guarded.generate(again)
        assert bert.generate("abc", ASKED).text


def test_token_replaced_by_another_of_the_same_length_at_once(guarded: Guarded) -> None:
    for turn in range(20):  # faster than the clock of the file system ticks
        token = f"token-{turn:02}"
        digest = hashlib.sha256(token.encode()).hexdigest()
        guarded.file.write_text(f"anna:{digest}\n", encoding="utf-8")
        with guarded.client(token) as client:
            assert client.list_models()


def test_file_that_is_gone_or_empty_lets_nobody_in(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    kept = guarded.file.read_bytes()
    guarded.file.unlink()
    with pytest.raises(AuthenticationError):
        guarded.generate(guarded.anna)
    assert "all callers are refused" in caplog.text
    guarded.file.write_bytes(b"")
    with pytest.raises(AuthenticationError):
        guarded.generate(guarded.anna)
    guarded.file.write_bytes(kept)
    assert guarded.generate(guarded.anna)


def test_file_with_a_slip_leaves_the_tokens_as_they_were(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    guarded.file.write_text("anna:not-a-digest\n", encoding="utf-8")
    assert guarded.generate(guarded.anna)
    assert "line 1 must be NAME:SHA256" in caplog.text
    assert "not-a-digest" not in caplog.text


def test_wrong_tokens_of_one_address_are_told_to_wait_and_valid_ones_let_in(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    anna = issue(NewToken(name="anna", file=file))
    limits = {"rate_without_token": 2.0, "burst_without_token": 3}
    with serve(str(tiny_bundles["gru"]), tokens=file, **limits) as running:
        guarded = Guarded(running, file, anna, "")
        told = [refusal_of(guarded, token) for token in ["wrong", "", "anna", *["wrong"] * 5]]
        assert [type(error) for error in told[:3]] == [AuthenticationError] * 3
        assert RateError in {type(error) for error in told[3:]}
        for error in told:
            if isinstance(error, RateError):
                assert "2 calls without a valid token from this address a second" in str(error)
                assert error.retry_after is not None
                assert 0 < error.retry_after <= 0.5
        for _ in range(6):
            assert guarded.generate(anna)
        wait_for(lambda: isinstance(refusal_of(guarded, "wrong"), AuthenticationError))


def refusal_of(guarded: Guarded, token: str) -> UnrollError:
    with pytest.raises(UnrollError) as caught:
        guarded.generate(token)
    return caught.value


def test_session_belongs_to_the_name_of_the_token(guarded: Guarded) -> None:
    second = issue(NewToken(name="anna", file=guarded.file))
    with (
        guarded.client(guarded.anna) as hers,
        guarded.client(second) as hers_too,
        guarded.client(guarded.bert) as his,
    ):
        session = hers.start_session()
        capsule = session.generate("abc", ASKED).capsule
        assert hers_too.get_session(session.session_id).position == session.position
        assert hers_too.generate("", ASKED, capsule=capsule).text
        with pytest.raises(SessionUnknownError):
            his.get_session(session.session_id)
        with pytest.raises(InputError, match="another caller"):
            his.generate("", ASKED, capsule=capsule)


def test_caller_has_so_many_sessions_and_others_have_theirs(guarded: Guarded) -> None:
    with guarded.client(guarded.anna) as anna, guarded.client(guarded.bert) as bert:
        sessions = [anna.start_session() for _ in range(2)]
        with pytest.raises(SessionLimitError, match="has 2 sessions, the limit is 3"):
            sessions[0].fork([1, 2])
        (fork,) = sessions[0].fork([1])
        with pytest.raises(SessionLimitError, match="has 3 sessions, the limit is 3"):
            anna.start_session()
        assert bert.start_session().session_id
        fork.generate("abc", ASKED)  # goes on being used
        fork.end()
        assert anna.start_session().session_id


@pytest.mark.parametrize("target", ["example.org:50051", "192.0.2.1:50051", "unix:/x", "[::2]:7"])
def test_client_sends_no_token_in_plain_text_to_another_machine(target: str) -> None:
    with pytest.raises(InputError, match="plain text"):
        Client(target, security=Security(token="secret"))
    with pytest.raises(InputError, match="plain text"):
        Client(["127.0.0.1:50051", target], security=Security(token="secret"))


def test_token_does_not_show() -> None:
    assert "secret" not in repr(Security(token="secret"))


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        commands.models(arguments)
    return ended.value.code


def test_command_line_takes_the_token_from_a_file_or_the_environment(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "token"
    file.write_text(guarded.anna + "\n", encoding="ascii")
    given = ["--target", guarded.running.address]
    assert run(*given, "--token-file", str(file)) == 0
    monkeypatch.setenv(TOKEN_VARIABLE, guarded.bert)
    assert run(*given) == 0
    assert capsys.readouterr().out.count("fingerprint") == 2
    monkeypatch.setenv(TOKEN_VARIABLE, "wrong")
    assert run(*given) == 2
    assert "a valid token is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["anna", "anna:12", "an na:" + "0" * 64, "anna:" + "g" * 64, ":" + "0" * 64, "\xe9:"]
)
def test_file_that_cannot_be_understood_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# a comment\n\n{text}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="line 3 must be NAME:SHA256"):
        Tokens(file)


def test_missing_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="`unroll token`"):
        Tokens(tmp_path / "none")


def test_issued_token_is_kept_by_its_digest_alone_in_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    token = issue(NewToken(name="anna", file=file))
    assert token not in file.read_text(encoding="utf-8")
    assert file.stat().st_mode & 0o077 == 0
    assert Tokens(file).name_of(token.encode()) == "anna"
    with pytest.raises(SettingsError, match="name = 'a b'"):
        issue(NewToken(name="a b", file=file))


def test_token_is_added_after_a_last_line_without_an_end(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    anna = issue(NewToken(name="anna", file=file))
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    bert = issue(NewToken(name="bert", file=file))
    tokens = Tokens(file)
    assert [tokens.name_of(token.encode()) for token in (anna, bert)] == ["anna", "bert"]
    assert file.read_bytes().count(b"\n") == 2
