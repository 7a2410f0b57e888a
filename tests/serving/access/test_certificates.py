"""Certificates with different names are different callers, over real connections."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.access.certificates import identity_of, names_of
from tests.serving.access.certificates import Authority, Pair
from tests.serving.running import PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.client.remote.security import Security
from unroll.errors import InputError, SessionUnknownError
from unroll.options import GenerateOptions

ASKED = GenerateOptions(max_new_symbols=5, seed=3)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def mutual(tiny_bundles: dict[Cell, Path], authority: Authority) -> Iterator[RunningServer]:
    own = authority.issue("127.0.0.1")
    with serve(
        str(tiny_bundles["gru"]),
        tls_certificate=own.certificate,
        tls_key=own.key,
        tls_client_ca=authority.file,
    ) as running:
        yield running


def client(running: RunningServer, authority: Authority, pair: Pair) -> Client:
    security = Security(ca=authority.file, certificate=pair.certificate, key=pair.key)
    return Client(running.address, security=security)


@pytest.mark.parametrize(
    ("hers", "his"),
    [
        (("a.example", "b.example"), ("a.exampleb.example",)),
        (("a.example", "b.example"), ("a.example",)),
        (("anna@example.org",), ("bert@example.org",)),
        (("10.0.0.1",), ("10.0.0.2",)),
    ],
)
def test_session_and_capsule_are_closed_to_other_names(
    mutual: RunningServer, authority: Authority, hers: tuple[str, ...], his: tuple[str, ...]
) -> None:
    with (
        client(mutual, authority, authority.issue(*hers, common="same")) as anna,
        client(mutual, authority, authority.issue(*his, common="same")) as bert,
    ):
        session = anna.start_session()
        capsule = session.generate("abc", ASKED, timeout=PATIENCE).capsule
        with pytest.raises(SessionUnknownError):
            bert.get_session(session.session_id)
        with pytest.raises(InputError, match="another caller"):
            bert.generate("abc", ASKED, capsule=capsule)


def test_same_names_in_another_order_are_the_same_caller(
    mutual: RunningServer, authority: Authority
) -> None:
    with (
        client(mutual, authority, authority.issue("a.example", "B.example")) as old,
        client(mutual, authority, authority.issue("b.example", "A.example")) as renewed,
    ):
        session = old.start_session()
        assert renewed.get_session(session.session_id).position == 0


def test_equal_text_of_another_kind_is_another_identity() -> None:
    kinds = ("peer_dns", "peer_email", "peer_ip", "peer_uri", "x509_common_name")
    seen = set()
    for kind in kinds:
        names = names_of({"x509_pem_cert": [b"any"], kind: [b"10.0.0.1"]})
        assert names
        seen.add(identity_of(names))
    assert len(seen) == len(kinds)


def test_connection_without_a_certificate_names_nobody() -> None:
    assert names_of({"transport_security_type": [b"ssl"]}) is None
    assert names_of({"x509_pem_cert": [b"any"]}) == ()


def test_name_with_a_line_break_cannot_forge_a_line_of_the_log(
    mutual: RunningServer, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serving.access")
    pair = authority.issue("anna\nforged line\x1b[2J@example.org", common="any")
    with client(mutual, authority, pair) as forger:
        forger.generate("abc", ASKED, timeout=PATIENCE)
    wait_for(lambda: len(caplog.records) == 1)
    assert caplog.records[0].__dict__["caller"].isprintable()
