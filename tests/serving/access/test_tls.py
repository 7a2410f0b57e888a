"""Certificates: who is let in, who is not, and what changes while the server runs."""

import asyncio
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from serving.settings import ServerSettings
from tests.serving.access.certificates import Authority, Pair
from tests.serving.rpc.health import SERVING, check_health
from tests.serving.running import PATIENCE, RunningServer, serve
from training.settings import Cell
from unroll.client.aio import AsyncClient
from unroll.client.client import Client
from unroll.client.remote.security import Security
from unroll.errors import InputError, SessionUnknownError, SettingsError, UnavailableError
from unroll.options import GenerateOptions

ASKED = GenerateOptions(max_new_symbols=20, seed=3)
PAST = datetime(2020, 2, 3, tzinfo=UTC)
EXPIRED = "expired"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("foreign"), "foreign")


@pytest.fixture(scope="module")
def encrypted(tiny_bundles: dict[Cell, Path], ours: Authority) -> Iterator[RunningServer]:
    own = ours.issue("127.0.0.1")
    with serve(
        str(tiny_bundles["gru"]), tls_certificate=own.certificate, tls_key=own.key
    ) as running:
        yield running


@pytest.fixture(scope="module")
def mutual(tiny_bundles: dict[Cell, Path], ours: Authority) -> Iterator[RunningServer]:
    own = ours.issue("127.0.0.1")
    with serve(
        str(tiny_bundles["gru"]),
        tls_certificate=own.certificate,
        tls_key=own.key,
        tls_client_ca=ours.file,
    ) as running:
        yield running


def call(address: str, security: Security) -> str:
    with Client(address, security=security) as client:
        return client.generate("abc", ASKED, timeout=PATIENCE).text


def shown(authority: Authority, pair: Pair) -> Security:
    return Security(ca=authority.file, certificate=pair.certificate, key=pair.key)


def test_both_clients_speak_tls(
    encrypted: RunningServer, shared_server: RunningServer, ours: Authority, client: Client
) -> None:
    security = Security(ca=ours.file)
    text = call(encrypted.address, security)
    assert text == client.generate("abc", ASKED).text

    async def stream() -> str:
        async with AsyncClient(encrypted.address, security=security) as other:
            return "".join([piece.text async for piece in other.stream("abc", ASKED)])

    assert asyncio.run(stream()) == text


def test_plain_client_of_a_tls_server_gets_nothing(encrypted: RunningServer) -> None:
    with pytest.raises(UnavailableError):
        call(encrypted.address, Security())


def test_tls_client_of_a_plain_server_gets_nothing(
    shared_server: RunningServer, ours: Authority
) -> None:
    with pytest.raises(UnavailableError):
        call(shared_server.address, Security(ca=ours.file))


def test_server_of_a_foreign_authority_is_not_believed(
    encrypted: RunningServer, foreign: Authority
) -> None:
    with pytest.raises(UnavailableError):
        call(encrypted.address, Security(ca=foreign.file))


def test_expired_server_is_not_believed(tiny_bundles: dict[Cell, Path], ours: Authority) -> None:
    old = ours.issue("127.0.0.1", until=PAST)
    with (
        serve(str(tiny_bundles["gru"]), tls_certificate=old.certificate, tls_key=old.key) as late,
        pytest.raises(UnavailableError),
    ):
        call(late.address, Security(ca=ours.file))


def test_server_of_another_name_is_not_believed(
    tiny_bundles: dict[Cell, Path], ours: Authority
) -> None:
    other = ours.issue("other.example.org")
    with (
        serve(
            str(tiny_bundles["gru"]), tls_certificate=other.certificate, tls_key=other.key
        ) as running,
        pytest.raises(UnavailableError),
    ):
        call(running.address, Security(ca=ours.file))


def test_client_with_our_certificate_is_let_in(mutual: RunningServer, ours: Authority) -> None:
    assert call(mutual.address, shown(ours, ours.issue("anna@example.org")))


@pytest.mark.parametrize("kind", ["none", "foreign", EXPIRED])
def test_client_without_a_valid_certificate_is_not_let_in(
    mutual: RunningServer, ours: Authority, foreign: Authority, kind: str
) -> None:
    security = {
        "none": Security(ca=ours.file),
        "foreign": shown(ours, foreign.issue("anna@example.org")),
        EXPIRED: shown(ours, ours.issue("anna@example.org", until=PAST)),
    }[kind]
    with pytest.raises(UnavailableError):
        call(mutual.address, security)
    credentials = security.credentials()
    assert credentials is not None
    with (
        grpc.secure_channel(mutual.address, credentials) as channel,
        pytest.raises(grpc.RpcError),
    ):
        check_health(channel)  # not even that


def test_session_belongs_to_the_certificate_that_started_it(
    mutual: RunningServer, ours: Authority
) -> None:
    anna, bert = (shown(ours, ours.issue(f"{name}@example.org")) for name in ("anna", "bert"))
    with (
        Client(mutual.address, security=anna) as hers,
        Client(mutual.address, security=bert) as his,
    ):
        session = hers.start_session()
        capsule = session.generate("abc", ASKED).capsule
        with pytest.raises(SessionUnknownError):
            his.get_session(session.session_id)
        with pytest.raises(InputError, match="another caller"):
            his.generate("abc", ASKED, capsule=capsule)
        assert hers.generate("abc", ASKED, capsule=capsule).text


def test_changed_files_are_used_for_the_next_connection(
    tiny_bundles: dict[Cell, Path], ours: Authority, foreign: Authority, tmp_path: Path
) -> None:
    certificate, key, ca = (tmp_path / name for name in ("certificate", "key", "ca"))

    def put(pair: Pair, trusted: Authority) -> None:
        shutil.copy(pair.key, key)
        shutil.copy(pair.certificate, certificate)
        shutil.copy(trusted.file, ca)

    hers, his = shown(ours, ours.issue("a@b.org")), shown(foreign, foreign.issue("a@b.org"))
    put(ours.issue("127.0.0.1"), ours)
    with serve(
        str(tiny_bundles["gru"]), tls_certificate=certificate, tls_key=key, tls_client_ca=ca
    ) as running:
        assert call(running.address, hers)
        put(foreign.issue("127.0.0.1"), foreign)
        assert call(running.address, his)
        with pytest.raises(UnavailableError):
            call(running.address, hers)
        with pytest.raises(UnavailableError):  # believes the server, is not believed
            call(running.address, shown(foreign, ours.issue("a@b.org")))


def test_files_that_do_not_fit_together_change_nothing(
    tiny_bundles: dict[Cell, Path],
    ours: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own, key = ours.issue("127.0.0.1"), tmp_path / "key"
    shutil.copy(own.key, key)
    with serve(str(tiny_bundles["gru"]), tls_certificate=own.certificate, tls_key=key) as running:
        key.write_bytes(ours.issue("other.example.org").key.read_bytes())
        assert call(running.address, Security(ca=ours.file))
        key.unlink()
        assert call(running.address, Security(ca=ours.file))
    assert caplog.text.count("the old certificate stays in use") == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"host": "0.0.0.0"}, "or allow it with --plaintext-anywhere"),
        ({"host": "::"}, "nothing is encrypted"),
        ({"host": "example.org"}, "nothing is encrypted"),
        ({"host": "0.0.0.0", "plaintext_anywhere": True, "tokens": "x"}, "in plain text"),
        ({"tls_certificate": "x"}, "tls_certificate and tls_key: one is given without the other"),
        ({"tls_key": "x"}, "tls_certificate and tls_key: one is given without the other"),
        ({"tls_client_ca": "x"}, "tls_client_ca: clients' certificates need encryption"),
    ],
)
def test_settings_that_are_not_safe_are_refused(given: dict[str, object], message: str) -> None:
    paths = {"tls_certificate", "tls_key", "tls_client_ca", "tokens"}
    read = {key: Path(str(value)) if key in paths else value for key, value in given.items()}
    with pytest.raises(SettingsError) as caught:
        ServerSettings(model=("m",), **read).validate()  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_plain_text_on_this_machine_needs_no_words(host: str) -> None:
    ServerSettings(model=("m",), host=host, tokens=Path("x")).validate()


def test_plain_text_elsewhere_is_there_for_those_who_ask() -> None:
    ServerSettings(model=("m",), host="0.0.0.0", plaintext_anywhere=True).validate()


def test_files_that_cannot_be_used_are_named(
    tiny_bundles: dict[Cell, Path], ours: Authority, tmp_path: Path
) -> None:
    own, none, junk = ours.issue("127.0.0.1"), tmp_path / "none", tmp_path / "junk"
    junk.write_text("junk", encoding="ascii")
    for files, message in (
        ((own.certificate, none, None), "none"),
        ((junk, own.key, None), "not a certificate in PEM"),
        ((own.certificate, ours.issue("other").key, None), "not a certificate in PEM"),
        ((own.certificate, own.key, junk), "tls_client_ca"),
    ):
        names = ("tls_certificate", "tls_key", "tls_client_ca")
        asked = serve(str(tiny_bundles["gru"]), **dict(zip(names, files, strict=True)))
        with pytest.raises(SettingsError, match=message), asked:
            pass


def test_health_is_told_to_those_with_a_certificate(mutual: RunningServer, ours: Authority) -> None:
    credentials = shown(ours, ours.issue("probe@example.org")).credentials()
    assert credentials is not None
    with grpc.secure_channel(mutual.address, credentials) as channel:
        assert check_health(channel) == SERVING
