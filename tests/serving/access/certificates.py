"""Real authorities and certificates for tests, made on the spot."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_hex

import trustme


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates.

    Args:
        folder: where its files lie.
        name: its own.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._ca = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, until: datetime | None = None, common: str | None = None) -> Pair:
        """Make out a certificate, by default for ages; the common name is the first by default."""
        made = self._ca.issue_cert(
            *names, common_name=names[0] if common is None else common, not_after=until
        )
        stem = f"{self._name}-{token_hex(8)}"
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        pair.certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(pair.key)
        return pair
