"""The settings of who may call, and how often."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from serving.access.callers import CallerLimits
from serving.access.tls import TlsFiles
from unroll.errors import SettingsError
from unroll.ranges import COUNT, Range
from unroll.terms import is_loopback


@dataclass(frozen=True, kw_only=True)
class AccessSettings:
    """Encryption, tokens and the limits of one caller."""

    tls_certificate: Path | None = None
    """The server's certificate, followed by the intermediate ones, in PEM. Encrypts all
    connections. Certificates, keys and tokens are reloaded when their files change."""

    tls_key: Path | None = None
    """The certificate's private key, in PEM, without a password."""

    tls_client_ca: Path | None = None
    """Require client certificates that are signed by an authority in this PEM file. By default none
    are required."""

    tokens: Path | None = None
    """Require a token from callers. The file has one NAME:SHA256 a line; `unroll token` adds one.
    By default no token is needed. Health checks never need one."""

    plaintext_anywhere: Annotated[bool, Parameter(negative=())] = False
    """Listen without encryption on addresses that other machines can reach."""

    max_calls_per_caller: Annotated[int, Range(1, COUNT)] = 512
    """Maximum concurrent calls and streams of one caller; each sample counts as one. A caller is
    known by its token, else its certificate, else its address."""

    rate_per_caller: Annotated[float, Range(0, 10**9)] = 1000.0
    """Maximum sustained calls per second of one caller; 0 disables."""

    burst_per_caller: Annotated[int, Range(1, COUNT)] = 1000
    """Calls that one caller may make at once after a pause."""

    rate_without_token: Annotated[float, Range(0, 10**9)] = 10.0
    """If tokens are required: maximum sustained calls per second without a valid token from one
    address; 0 disables. Calls with a valid token are not limited by it."""

    burst_without_token: Annotated[int, Range(1, COUNT)] = 100
    """Calls without a valid token that one address may make at once after a pause."""

    @property
    def tls(self) -> TlsFiles | None:
        """The files for encryption; None for plain text."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        return TlsFiles(
            certificate=self.tls_certificate, key=self.tls_key, client_ca=self.tls_client_ca
        )

    @property
    def caller_limits(self) -> CallerLimits:
        """What a caller may do."""
        return CallerLimits(
            calls=self.max_calls_per_caller,
            rate=self.rate_per_caller,
            burst=self.burst_per_caller,
        )

    @property
    def stranger_limits(self) -> CallerLimits:
        """What an address may do without a valid token."""
        return CallerLimits(rate=self.rate_without_token, burst=self.burst_without_token)

    def check_access(self, host: str) -> None:
        """Check what belongs together, for a server on an address.

        Raises:
            SettingsError: a setting is given without another, or secrets would go in plain text.
        """
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise SettingsError(
                "tls_certificate and tls_key: one is given without the other; give both, with "
                "--tls-certificate and --tls-key"
            )
        if self.tls_client_ca is not None and self.tls is None:
            raise SettingsError(
                "tls_client_ca: clients' certificates need encryption; give --tls-certificate and "
                "--tls-key, too"
            )
        if self.tls is not None or is_loopback(host):
            return
        if self.tokens is not None:
            raise SettingsError(
                f"tokens: would be sent in plain text to host = {host!r}; give "
                "--tls-certificate and --tls-key, or listen on 127.0.0.1"
            )
        if not self.plaintext_anywhere:
            raise SettingsError(
                f"host = {host!r}: other machines can reach it, and nothing is encrypted; "
                "give --tls-certificate and --tls-key, listen on 127.0.0.1, or allow it with "
                "--plaintext-anywhere"
            )
