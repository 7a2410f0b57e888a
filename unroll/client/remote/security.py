"""How a client authenticates itself and its server; for both clients."""

import hashlib
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from unroll.errors import InputError, SettingsError
from unroll.sent import truth_as_sent
from unroll.terms import is_loopback
from unroll.wire import AFFINITY

TOKEN_VARIABLE = "UNROLL_TOKEN"
_DIGEST = re.compile(r":[0-9a-f]{64}$")  # ends a line of a server's file of tokens


@dataclass(frozen=True, kw_only=True)
class Security:
    """What a connection is secured with; by default nothing, which is for this machine alone.

    Plain text goes straight to the server: the variables `http_proxy`, `https_proxy` and
    `grpc_proxy` are heeded only where the connection is encrypted, from here to the server.

    Attributes:
        tls: whether to encrypt; certificates below imply it.
        ca: file of the authorities that may vouch for the server, in PEM; by default those that
            gRPC brings along.
        certificate: file of the client's own certificate, in PEM, where the server asks for one.
        key: file of that certificate's private key, in PEM, without a password.
        token: who the caller is, where the server asks for that; empty for none. It is never sent
            in plain text to another machine.
    """

    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: str = field(default="", repr=False)

    @property
    def is_encrypted(self) -> bool:
        """Whether connections are encrypted."""
        return self.tls or self.ca is not None or self.certificate is not None

    def validate(self, targets: Sequence[str]) -> None:
        """Check that all fits together, and that no token leaves the machine in plain text.

        Raises:
            InputError: something does not.
        """
        truth_as_sent("tls", self.tls)
        for name in ("ca", "certificate", "key"):
            file = getattr(self, name)
            if not isinstance(file, Path | None):  # never told: it may be the key itself
                raise InputError(name, f"must be a pathlib.Path, got {type(file).__name__}")
        if (self.certificate is None) != (self.key is None):
            raise InputError("tls_key", "certificate and key are needed together; give both")
        if not isinstance(self.token, str):  # never told: it may be a secret
            raise InputError("token", f"must be a string, got {type(self.token).__name__}")
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise InputError("token", "must be printable ASCII; check the file it comes from")
        if not self.token or self.is_encrypted:
            return
        for target in targets:
            if not is_loopback(_host(target)):
                raise InputError(
                    "token",
                    f"would be sent in plain text to {target!r}; use TLS (--tls or --tls-ca), or "
                    "a server at 127.0.0.1",
                )

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Read the files; None for plain text.

        Raises:
            SettingsError: a file cannot be read or used.
        """
        if not self.is_encrypted:
            return None
        if self.certificate is not None and self.key is not None:
            _check_pair(self.certificate, self.key)
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca),
            private_key=_read(self.key),
            certificate_chain=_read(self.certificate),
        )

    def authorize(self, channel: Any) -> Any:
        """Return a channel, blocking or asynchronous, whose calls carry token and affinity."""
        return _MarkedChannel(channel, self.token)


class _MarkedChannel:
    """The methods of a channel that stubs use here; their calls carry metadata.

    A call about a session carries AFFINITY, by which a proxy can send all of them to one server.

    Args:
        channel: that makes the calls.
        token: to be sent; empty for none.
    """

    def __init__(self, channel: Any, token: str) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        """See grpc.Channel."""
        return self._marked(self._channel.unary_unary(*arguments, **options))

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        """See grpc.Channel."""
        return self._marked(self._channel.unary_stream(*arguments, **options))

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        """See grpc.Channel."""
        return partial(self._channel.stream_stream(*arguments, **options), metadata=self._metadata)

    def _marked(self, method: Any) -> Any:
        def call(request: Any, **options: Any) -> Any:
            metadata = (*self._metadata, *_affinity(getattr(request, "session", "")))
            return method(request, metadata=metadata, **options)

        return call


def _affinity(session: object) -> tuple[tuple[str, str], ...]:
    """Return metadata that is the same for all calls of a session and does not tell its id."""
    if not isinstance(session, str) or not session:
        return ()
    digest = hashlib.sha256(session.encode(errors="surrogatepass")).hexdigest()
    return ((AFFINITY, digest[:16]),)


def read_token(file: Path | None) -> str:
    """Return the token in a file, else in the variable UNROLL_TOKEN, else none.

    Raises:
        SettingsError: the file cannot be read, is empty or holds anything but one token.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    token = (_read(file) or b"").decode("ascii", errors="replace").strip()
    if not token:
        raise SettingsError(f"token_file = {str(file)!r}: holds no token; change --token-file")
    lines = token.splitlines()
    if any(map(_DIGEST.search, lines)):
        raise SettingsError(
            f"token_file = {str(file)!r}: holds digests of tokens, which are for the server's "
            "--tokens; name a file with the token that `unroll token` printed"
        )
    if len(lines) > 1:
        raise SettingsError(
            f"token_file = {str(file)!r}: has {len(lines)} lines; one line with one token is "
            "wanted; change --token-file"
        )
    return token


def _check_pair(certificate: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            certificate, key, password=lambda: ""
        )
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"tls_certificate = {str(certificate)!r}, tls_key = {str(key)!r}: are not a "
            "certificate in PEM and its private key without a password"
        ) from error


def _read(file: Path | None) -> bytes | None:
    try:
        return None if file is None else file.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{file}: cannot be read: {error.strerror}; check its name and permissions"
        ) from error


def _host(target: str) -> str:
    """Return the host of HOST:PORT, however IPv6 addresses are written."""
    return target.removeprefix("dns:///").rpartition(":")[0].strip("[]")
