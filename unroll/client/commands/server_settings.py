"""The settings of every command that asks a server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unroll.client.remote.connection import DEFAULT_TARGET
from unroll.client.remote.security import Security, read_token
from unroll.ranges import Range, check_ranges


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Ask a server."""

    target: str | None = None
    """Address of the server, as HOST:PORT; 127.0.0.1:50051 by default."""

    tls: Annotated[bool, Parameter(negative=())] = False
    """Encrypt, and trust the authorities that gRPC ships with."""

    tls_ca: Path | None = None
    """Encrypt, and trust the authorities in this PEM file."""

    tls_certificate: Path | None = None
    """The client's own certificate, in PEM, if the server requires one."""

    tls_key: Path | None = None
    """That certificate's private key, in PEM, without a password."""

    token_file: Path | None = None
    """File with the caller's token. Default: the variable UNROLL_TOKEN, if set."""

    timeout: Annotated[float, Range(0, 30 * 86_400)] = 0.0
    """Maximum time until the answer is complete, in seconds. 0 sets no limit; `health` then waits
    for 5 seconds."""

    def validate(self) -> None:
        """Check what the server cannot.

        Raises:
            SettingsError: a value is out of its range; the message names the setting.
        """
        check_ranges(self)

    @property
    def address(self) -> str:
        """Where to ask."""
        return self.target or DEFAULT_TARGET

    @property
    def security(self) -> Security:
        """What the connection is secured with; reads the token.

        Raises:
            SettingsError: the token's file cannot be used.
        """
        return Security(
            tls=self.tls,
            ca=self.tls_ca,
            certificate=self.tls_certificate,
            key=self.tls_key,
            token=read_token(self.token_file),
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelsSettings(ServerSettings):
    """List a server's models: name, cell, size, loss and fingerprint."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class HealthSettings(ServerSettings):
    """Ask whether a server is ready: status 0 if it is, 2 if not."""
