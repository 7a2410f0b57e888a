"""The capsule: a signed blob from which any server with the bundle continues a text.

All numbers are little-endian:

    offset   size  field
    0        4     magic, the ASCII letters UNRL
    4        4     version, u32: 2 where the text has biases or is in a pattern, else 1
    8        8     key id: the first 8 bytes of sha256("unroll capsule key" + key)
    16       32    fingerprint of the model, a raw sha256
    48       16    owner: the first 16 bytes of sha256(caller's identity); zeros for none
    64       24    seed u64, temperature f32, top_k u32, top_p f32, min_p f32
    88       16    position u64, token u32, number of held symbols K u32
    104      4 K   token ids of the held symbols, i32
    104+4K   4 K   their log-probabilities, f32
    104+8K   S     state: the manifest's state tensors in order, f32, each (layers, hidden)
    104+8K+S       in version 2: biases and pattern, see contents.py
    end-32   32    HMAC-SHA256 (RFC 2104) of all before it

Held symbols were generated but not delivered: a stop string may begin with them; K is at most
255. The signature is checked, in constant time, before anything behind the key id is believed,
and the size follows from K and the model, so nothing is allocated in proportion to a claim. The
state is signed, not encrypted: whoever holds a capsule can read it.
"""

import hashlib
import hmac
import os
import secrets
import struct
from pathlib import Path

import numpy as np

from serving.engine.sequences.snapshot import NO_LOG_PROBS, SamplerState, Snapshot, StateLayout
from serving.sessions.contents import CONSTRAINTS_AT_MOST, CapsuleContents
from unroll.errors import CapsuleError, ForeignCapsuleError, InputError, OwnerError, SettingsError
from unroll.files import read_settings
from unroll.terms import STOP_LENGTH_AT_MOST

MAGIC = b"UNRL"
FREE, CONSTRAINED = 1, 2  # versions
KEYS_VARIABLE = "UNROLL_CAPSULE_KEYS"
KEY_BYTES_AT_LEAST = 32
_HEADER = struct.Struct("<4sI8s32s16s")
_MAC = 32


def owner_tag(identity: str) -> bytes:
    """Shorten a caller's identity to 16 bytes; zeros for a caller without one."""
    return hashlib.sha256(identity.encode()).digest()[:16] if identity else bytes(16)


class CapsuleKeys:
    """The keys that sign and open capsules.

    Args:
        keys: the first one signs, all open; each of 32 bytes or more.

    Raises:
        SettingsError: there is none, or one is too short.
    """

    def __init__(self, keys: list[bytes]) -> None:
        self.use(keys)

    def use(self, keys: list[bytes]) -> None:
        """Use other keys from now on; raises as the class does, and then changes nothing."""
        if not keys or min(map(len, keys)) < KEY_BYTES_AT_LEAST:
            raise SettingsError(
                f"capsule keys: {len(keys)} given, of {[len(key) for key in keys]} bytes; at least "
                f"one is needed, each of {KEY_BYTES_AT_LEAST} bytes or more (64 hex digits), as "
                "`openssl rand -hex 32` prints one"
            )
        self._by_id = {_key_id(key): key for key in keys}
        self.signing_id = _key_id(keys[0])

    @classmethod
    def load(cls, path: Path | None) -> "CapsuleKeys":
        """Read the keys from a file, else from the environment, else make one up.

        One key in hex a line (in the environment: separated by commas). To rotate, put the new key
        first on every server and remove the old one when its capsules may be refused.

        Args:
            path: the file; None for the variable UNROLL_CAPSULE_KEYS.

        Raises:
            SettingsError: the file cannot be read, or a key is not hex or too short.
        """
        if path is not None:
            return cls(read_keys(path))
        listed = os.environ.get(KEYS_VARIABLE, "")
        if listed:
            return cls(_keys_in(listed.replace(",", "\n")))
        return cls([secrets.token_bytes(KEY_BYTES_AT_LEAST)])

    def key(self, key_id: bytes) -> bytes | None:
        """Find a key by its id."""
        return self._by_id.get(key_id)


def has_keys(path: Path | None) -> bool:
    """Tell whether keys are given, by a file or the environment; else one is made up."""
    return path is not None or bool(os.environ.get(KEYS_VARIABLE))


def read_keys(path: Path) -> list[bytes]:
    """Read a file of keys: one in hex a line; lines that begin with # mean nothing.

    Raises:
        SettingsError: it cannot be read, or a key is not hex.
    """
    try:
        return _keys_in(read_settings(path).decode())
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"capsule_keys = {str(path)!r}: cannot be read: {why}; name a file with one key a "
            "line, as `openssl rand -hex 32` prints one, or leave the setting out"
        ) from error


def _keys_in(text: str) -> list[bytes]:
    lines = [line for line in map(str.strip, text.splitlines()) if not line.startswith("#")]
    try:
        return [bytes.fromhex(word) for line in lines for word in line.split()]
    except ValueError as error:
        raise SettingsError(
            "capsule keys: each must be in hex digits, as `openssl rand -hex 32` prints one"
        ) from error


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"unroll capsule key" + key).digest()[:8]


class CapsuleCodec:
    """Seals and opens the capsules of one model.

    Args:
        keys: of this server.
        fingerprint: of the model, in hex.
        layout: of its state.
    """

    def __init__(self, keys: CapsuleKeys, fingerprint: str, layout: StateLayout) -> None:
        self._keys = keys
        self._fingerprint = bytes.fromhex(fingerprint)
        self._layout = layout
        smallest = Snapshot(
            position=0,
            token=0,
            state=bytes(layout.size),
            held=np.zeros(0, np.int32),
            held_log_probs=NO_LOG_PROBS,
        )
        self._smallest = _HEADER.size + SamplerState.SIZE + len(smallest.pack()) + _MAC
        self.size_limit = self._smallest + 8 * (STOP_LENGTH_AT_MOST - 1) + CONSTRAINTS_AT_MOST

    def seal(self, contents: CapsuleContents, owner: bytes) -> bytes:
        """Write a capsule for its owner's tag."""
        key_id, is_free = self._keys.signing_id, contents.is_free
        version = FREE if is_free else CONSTRAINED
        header = _HEADER.pack(MAGIC, version, key_id, self._fingerprint, owner)
        body = header + contents.pack(with_constraints=not is_free)
        key = self._keys.key(key_id)
        assert key is not None
        return body + hmac.digest(key, body, "sha256")

    def open(self, capsule: bytes, owner: bytes) -> CapsuleContents:
        """Read a capsule of this model.

        Raises:
            CapsuleError: it is cut, forged, too large, of another version or key.
            ForeignCapsuleError: another model's.
            OwnerError: another caller's.
        """
        fingerprint, its_owner = check(capsule, self._keys, self.size_limit)
        if fingerprint != self._fingerprint:
            raise ForeignCapsuleError(
                "capsule",
                f"it belongs to the model with fingerprint {fingerprint.hex()[:12]}, this one has "
                f"{self._fingerprint.hex()[:12]}; ask a server that serves that bundle",
            )
        if its_owner != owner:
            raise OwnerError(
                "capsule",
                "it was issued to another caller; send that caller's token or certificate",
            )
        if len(capsule) < self._smallest:
            raise CapsuleError(
                "capsule", f"it has {len(capsule)} bytes, which no capsule of this model has"
            )
        try:
            return self._read(memoryview(capsule))
        except (ValueError, InputError) as error:
            raise CapsuleError("capsule", f"its contents are out of range: {error}") from error

    def _read(self, capsule: memoryview) -> CapsuleContents:
        version, body = _HEADER.unpack_from(capsule)[1], capsule[_HEADER.size : -_MAC]
        contents, length = CapsuleContents.unpack(
            body, self._layout, with_constraints=version == CONSTRAINED
        )
        if length != len(body):
            raise ValueError("it is longer than its contents")
        return contents


def check(capsule: bytes, keys: CapsuleKeys, most: int) -> tuple[bytes, bytes]:
    """Check a capsule's signature; return the model's fingerprint and the owner's tag.

    Args:
        capsule: as it came.
        keys: of this server.
        most: bytes that a capsule can have; of more no signature is computed.

    Raises:
        CapsuleError: it is cut, forged, too large, of another version or key.
    """
    if len(capsule) > most:
        raise CapsuleError(
            "capsule", f"it has {len(capsule)} bytes, no capsule here has over {most}"
        )
    if len(capsule) < _HEADER.size + _MAC:
        raise CapsuleError(
            "capsule", f"it has {len(capsule)} bytes, too few for a capsule; send it whole"
        )
    magic, version, key_id, fingerprint, owner = _HEADER.unpack_from(capsule)
    if magic != MAGIC or version not in {FREE, CONSTRAINED}:
        raise CapsuleError("capsule", f"it is not a capsule of version {FREE} or {CONSTRAINED}")
    key = keys.key(key_id)
    if key is None:
        raise CapsuleError(
            "capsule",
            "it was signed with a key that this server does not have, by another server or before "
            "a restart; servers with the same --capsule-keys accept each other's",
        )
    expected = hmac.digest(key, capsule[:-_MAC], "sha256")
    if not hmac.compare_digest(expected, capsule[-_MAC:]):
        raise CapsuleError(
            "capsule", "its signature does not match: it was altered or cut; send it as it came"
        )
    return fingerprint, owner
