"""Real authorities and certificates for tests, made on the spot."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

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

    def issue(self, identity: str, until: datetime | None = None) -> Pair:
        """Make out a certificate, by default for ages."""
        made = self._ca.issue_cert(identity, common_name=identity, not_after=until)
        stem = f"{self._name}-{identity}-{'' if until is None else until.year}"
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        pair.certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(pair.key)
        return pair
