"""The server's certificate and whose certificates it trusts, read again when the files change."""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc

from serving.access.watched import Watched
from unroll.errors import SettingsError
from unroll.files import read_settings

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """Files in PEM.

    Attributes:
        certificate: the server's, followed by those between it and its authority's.
        key: the certificate's private key, without a password.
        client_ca: certificates of the authorities that vouch for clients; None asks clients for no
            certificate.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        most = (self.certificate, self.key)
        return most if self.client_ca is None else (*most, self.client_ca)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Make gRPC's credentials, for which each new connection looks at the files again.

    Files that do not fit together leave the credentials as they were, and the log says so:
    between the certificate's change and the key's, connections go on being made.

    Raises:
        SettingsError: a file cannot be read or used now.
    """
    watched = Watched(files.paths, lambda: _configuration(files))
    first = _first(watched)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        return _changed(watched)

    return grpc.dynamic_ssl_server_credentials(
        first,
        fetch,  # type: ignore[arg-type]  # None, for no change, is missing in the stubs
        require_client_authentication=files.client_ca is not None,
    )


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Make a context for HTTP, in whose place each new connection gets that of the files then.

    As server_credentials in all else.
    """
    watched = Watched(files.paths, lambda: _read(files))
    first = latest = _first(watched)

    def choose(channel: ssl.SSLObject, name: str | None, asked: ssl.SSLContext) -> None:
        nonlocal latest
        latest = channel.context = _changed(watched) or latest

    first.sni_callback = choose  # called for clients that name no server, too
    return first


def _first(watched: Watched[T]) -> T:
    try:
        return watched.current()[0]
    except OSError as error:
        raise SettingsError(
            f"tls: {error.filename}: cannot be read: {error.strerror}; change --tls-certificate, "
            "--tls-key or --tls-client-ca"
        ) from error


def _changed(watched: Watched[T]) -> T | None:
    """Return what the files mean if that is new; None if it is not, or while they mean nothing."""
    try:
        meaning, is_new = watched.current()
    except (OSError, SettingsError) as error:
        log.error("%s; the old certificate stays in use", error)
        return None
    return meaning if is_new else None


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    _read(files)
    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    if files.client_ca is None:
        return grpc.ssl_server_certificate_configuration([pair])
    return grpc.ssl_server_certificate_configuration([pair], files.client_ca.read_bytes())


def _read(files: TlsFiles) -> ssl.SSLContext:
    """Make a context of the files."""
    for path in (files.certificate, files.key, files.client_ca):
        if path is not None:
            read_settings(path)  # ssl would wait for a pipe
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 0  # nobody comes back with what an older certificate proved
    try:
        # A password would be asked for on the terminal; this one is wrong for any key.
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        raise SettingsError(
            f"tls_certificate = {str(files.certificate)!r}, tls_key = {str(files.key)!r}: are not "
            "a certificate in PEM and its private key without a password; change "
            "--tls-certificate and --tls-key"
        ) from error
    if files.client_ca is None:
        return context
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(files.client_ca)
    except ssl.SSLError as error:
        raise SettingsError(
            f"tls_client_ca = {str(files.client_ca)!r}: holds no certificates in PEM; change "
            "--tls-client-ca"
        ) from error
    return context
