"""Capsules: what goes in comes out, and nothing else is believed."""

import hashlib
import hmac
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.sequences.snapshot import SamplerState, Snapshot, StateLayout
from serving.runtime.sampling import SamplingParams
from serving.sessions.capsule import CapsuleCodec, CapsuleKeys, check, owner_tag
from serving.sessions.contents import CapsuleContents
from unroll.bundle.manifest import BATCH, StateTensor
from unroll.errors import CapsuleError, ForeignCapsuleError, OwnerError, SettingsError

KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 72))
FINGERPRINT = "ab" * 32
V = 11
LAYOUT = StateLayout(
    [
        StateTensor(input=f"state_{n}", output=f"last_{n}", dtype="float32", shape=[2, BATCH, 3])
        for n in "hc"
    ],
    V,
)
NOBODY, ANNA = owner_tag(""), owner_tag("anna")


def codec(*keys: bytes, fingerprint: str = FINGERPRINT) -> CapsuleCodec:
    return CapsuleCodec(CapsuleKeys(list(keys) or [KEY]), fingerprint, LAYOUT)


def contents(held: int = 2, token: int = 10) -> CapsuleContents:
    sampling = SamplingParams(temperature=0.5, top_k=7, top_p=0.75, min_p=0.125)
    snapshot = Snapshot(
        position=2**40 + 3,
        token=token,
        state=np.arange(12, dtype="<f4").tobytes(),
        held=np.arange(held, dtype=np.int32) % V,
        held_log_probs=-np.arange(held, dtype=np.float32),
    )
    return CapsuleContents(
        sampler=SamplerState(seed=2**63 - 5, sampling=sampling), snapshot=snapshot
    )


def bytes_of(one: CapsuleContents) -> bytes:
    return one.sampler.pack() + one.snapshot.pack()


def resigned(body: bytes, key: bytes = KEY) -> bytes:
    return body + hmac.new(key, body, hashlib.sha256).digest()


@given(
    seed=st.integers(0, 2**63 - 1),
    temperature=st.just(0.0) | st.floats(0.125, 1000, width=32),
    top_k=st.integers(0, 2**31 - 1),
    position=st.integers(0, 2**62),
    token=st.integers(0, V - 1),
    state=st.binary(min_size=LAYOUT.size, max_size=LAYOUT.size),
    held=st.lists(st.tuples(st.integers(0, V - 1), st.floats(max_value=0, width=32)), max_size=255),
    owner=st.sampled_from([NOBODY, ANNA]),
)
def test_what_was_sealed_is_opened(
    seed: int, temperature: float, top_k: int, position: int, token: int, state: bytes,
    held: list[tuple[int, float]], owner: bytes,
) -> None:  # fmt: skip
    sampling = SamplingParams(temperature=temperature, top_k=top_k)
    snapshot = Snapshot(
        position=position,
        token=token,
        state=state,
        held=np.array([symbol for symbol, _ in held], np.int32),
        held_log_probs=np.array([log_prob for _, log_prob in held], np.float32),
    )
    sealed = CapsuleContents(sampler=SamplerState(seed=seed, sampling=sampling), snapshot=snapshot)
    opened = codec().open(codec().seal(sealed, owner), owner)
    assert bytes_of(opened) == bytes_of(sealed)
    assert opened.sampler == sealed.sampler


def test_layout_is_as_documented_byte_for_byte() -> None:
    capsule = codec().seal(contents(), ANNA)
    assert capsule[:4] == b"UNRL"
    assert struct.unpack_from("<I", capsule, 4) == (1,)
    assert capsule[8:16] == hashlib.sha256(b"unroll capsule key" + KEY).digest()[:8]
    assert capsule[16:48].hex() == FINGERPRINT
    assert capsule[48:64] == hashlib.sha256(b"anna").digest()[:16]
    assert struct.unpack_from("<QfIff", capsule, 64) == (2**63 - 5, 0.5, 7, 0.75, 0.125)
    assert struct.unpack_from("<QII", capsule, 88) == (2**40 + 3, 10, 2)
    assert struct.unpack_from("<2i", capsule, 104) == (0, 1)
    assert struct.unpack_from("<2f", capsule, 112) == (0.0, -1.0)
    assert struct.unpack_from("<12f", capsule, 120) == tuple(range(12))
    assert capsule[-32:] == hmac.new(KEY, capsule[:-32], hashlib.sha256).digest()
    assert len(capsule) == 120 + 48 + 32
    assert codec().seal(contents(), NOBODY)[48:64] == bytes(16)


def test_every_flipped_bit_is_refused() -> None:
    capsule = codec().seal(contents(), ANNA)
    for bit in range(8 * len(capsule)):
        flipped = bytearray(capsule)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CapsuleError) as caught:
            codec().open(bytes(flipped), ANNA)
        assert type(caught.value) is CapsuleError


def test_every_cut_and_extension_is_refused() -> None:
    capsule = codec().seal(contents(), ANNA)
    others = [capsule[:end] for end in range(len(capsule))]
    others += [capsule[begin:] for begin in range(1, len(capsule))]
    others += [capsule + b"\0", capsule + capsule, capsule + bytes(10**6)]
    for other in others:
        with pytest.raises(CapsuleError):
            codec().open(other, ANNA)


@pytest.mark.slow
@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda tail: b"UNRL\1\0\0\0" + tail))
@settings(max_examples=500)
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CapsuleError):
        codec().open(data, NOBODY)


@pytest.mark.slow
@given(at=st.integers(64, 119), value=st.binary(min_size=1, max_size=24), end=st.integers(0, 300))
@settings(max_examples=500)
def test_nonsense_that_is_signed_is_still_refused_or_in_range(
    at: int, value: bytes, end: int
) -> None:
    whole = bytearray(codec().seal(contents(), ANNA)[:-32])
    whole[at : at + len(value)] = value
    body = bytes(whole[: max(end, 64)])
    try:
        opened = codec().open(resigned(body), ANNA)
    except CapsuleError:
        return
    assert bytes_of(opened) == body[64:]


@pytest.mark.parametrize("claimed", [3, 255, 256, 2**31, 2**32 - 1])
def test_claimed_number_of_held_symbols_must_be_the_real_one(claimed: int) -> None:
    body = bytearray(codec().seal(contents(), ANNA)[:-32])
    struct.pack_into("<I", body, 100, claimed)
    with pytest.raises(CapsuleError):
        codec().open(resigned(bytes(body)), ANNA)


def test_symbols_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(CapsuleError, match="not in the vocabulary"):
        codec().open(codec().seal(contents(token=V), ANNA), ANNA)


def test_more_held_symbols_than_any_stop_string_are_refused() -> None:
    codec().open(codec().seal(contents(255), ANNA), ANNA)
    with pytest.raises(CapsuleError, match="it holds 256 symbols"):
        codec().open(codec().seal(contents(256), ANNA), ANNA)


def test_other_models_capsule_is_foreign() -> None:
    with pytest.raises(ForeignCapsuleError, match="fingerprint cdcdcdcdcdcd"):
        codec().open(codec(fingerprint="cd" * 32).seal(contents(), ANNA), ANNA)


@pytest.mark.parametrize("owners", [(ANNA, NOBODY), (NOBODY, ANNA), (ANNA, owner_tag("bert"))])
def test_other_callers_capsule_is_refused(owners: tuple[bytes, bytes]) -> None:
    issued_to, sender = owners
    with pytest.raises(OwnerError, match="another caller"):
        codec().open(codec().seal(contents(), issued_to), sender)


def test_key_rotation() -> None:
    old, both, new = codec(KEY), codec(OTHER_KEY, KEY), codec(OTHER_KEY)
    before, after = old.seal(contents(), ANNA), both.seal(contents(), ANNA)
    both.open(before, ANNA)
    both.open(after, ANNA)
    new.open(after, ANNA)
    for one, capsule in ((new, before), (old, after)):
        with pytest.raises(CapsuleError, match="a key that this server does not have"):
            one.open(capsule, ANNA)


def test_check_tells_model_and_owner() -> None:
    capsule = codec().seal(contents(), ANNA)
    assert check(capsule, CapsuleKeys([KEY]), len(capsule)) == (bytes.fromhex(FINGERPRINT), ANNA)


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("UNROLL_CAPSULE_KEYS", raising=False)
    return monkeypatch


def test_keys_come_from_a_file(tmp_path: Path, no_keys: pytest.MonkeyPatch) -> None:
    no_keys.setenv("UNROLL_CAPSULE_KEYS", "not read")
    path = tmp_path / "keys"
    path.write_text(f"{OTHER_KEY.hex()}\n{KEY.hex()}\n", encoding="ascii")
    loaded = CapsuleKeys.load(path)
    assert loaded.signing_id == CapsuleKeys([OTHER_KEY]).signing_id
    assert loaded.key(CapsuleKeys([KEY]).signing_id) == KEY


def test_keys_come_from_the_environment(no_keys: pytest.MonkeyPatch) -> None:
    no_keys.setenv("UNROLL_CAPSULE_KEYS", f"{KEY.hex()},{OTHER_KEY.hex()}")
    loaded = CapsuleKeys.load(None)
    assert loaded.signing_id == CapsuleKeys([KEY]).signing_id
    assert loaded.key(CapsuleKeys([OTHER_KEY]).signing_id) == OTHER_KEY


@pytest.mark.usefixtures("no_keys")
def test_without_keys_one_is_made_up() -> None:
    assert CapsuleKeys.load(None).signing_id != CapsuleKeys.load(None).signing_id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 given"),
        (KEY[:31].hex(), "of .31. bytes; at least one"),
        (f"{KEY.hex()}\n{KEY[:8].hex()}", "of .32, 8. bytes"),
        ("no hex at all", "hex digits"),
        ("schlüssel", "hex digits"),
    ],
)
def test_bad_keys_are_refused_and_not_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message) as caught:
        CapsuleKeys.load(path)
    assert KEY.hex()[:16] not in str(caught.value)


def test_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none': cannot be read: No such .*; name a file with"):
        CapsuleKeys.load(tmp_path / "none")


def test_capsule_larger_than_any_is_refused_before_its_signature_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = codec()
    large = made.seal(contents(), NOBODY) + bytes(2**20)
    monkeypatch.setattr(hmac, "digest", lambda *_: pytest.fail("computed"))
    with pytest.raises(CapsuleError, match=r"has 1048\d+ bytes, no capsule here has over"):
        made.open(large, NOBODY)
