"""Which models are served, and under what names."""

import shutil
from pathlib import Path

import pytest

from serving.engine.models import Models, parse_source
from serving.engine.options import EngineOptions
from serving.runtime.decoder import Decoder
from serving.runtime.onnx import Device
from serving.settings import ServerSettings
from tests.conftest import export_briefly, tiny_checkpoint
from tests.serving.engine.harness import Reader, alone, request, running
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.manifest import WEIGHTS
from unroll.errors import BundleError, SettingsError, UnknownModelError


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("tiny=a/b", ("tiny", Path("a/b"))),
        ("a/b", ("b", Path("a/b"))),
        ("a/b/", ("b", Path("a/b"))),
        ("./b=c", ("b=c", Path("b=c"))),
        ("한=a=b", ("한", Path("a=b"))),
    ],
)
def test_source_is_name_and_folder(source: str, expected: tuple[str, Path]) -> None:
    assert parse_source(source) == expected


@pytest.mark.parametrize("source", ["", "=a", "a="])
def test_source_without_name_or_folder_is_refused(source: str) -> None:
    with pytest.raises(SettingsError, match=r"must be NAME=FOLDER or FOLDER"):
        parse_source(source)


def test_two_models_of_one_name_are_refused(tiny_bundles: dict[Cell, Path]) -> None:
    sources = [str(tiny_bundles["gru"]), f"gru={tiny_bundles['lstm']}"]
    with pytest.raises(SettingsError, match=r"the name 'gru' is taken by .*give each bundle"):
        Models.load(sources, EngineOptions())


def test_folder_without_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle there"):
        Models.load([str(tmp_path)], EngineOptions())


def other_weights(folder: Path) -> str:
    """Export a bundle of the same shape and other weights; return its fingerprint."""
    checkpoint = tiny_checkpoint("gru")
    checkpoint.weights["decoder.bias"][3] += 5
    return export_briefly(checkpoint, folder).manifest.fingerprint


def swap(folder: Path, other: Path) -> None:
    """Put a folder in another's place by renaming, as a deployment may do."""
    folder.rename(folder.with_name("old"))
    other.rename(folder)


def test_bundle_replaced_while_it_is_read_is_read_anew(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny_bundles["gru"], tmp_path / "live"))
    fingerprint = other_weights(tmp_path / "other")
    swaps = iter([lambda: swap(folder, tmp_path / "other")])

    def read_then_swap(path: Path) -> Bundle:
        bundle = load_bundle(path)
        next(swaps, lambda: None)()
        return bundle

    monkeypatch.setattr("serving.engine.served.load_bundle", read_then_swap)
    model = Models.load([str(folder)], EngineOptions()).get("")
    assert model.fingerprint == fingerprint
    asked = request(model.bundle.vocabulary, "abc", 200)
    again = load_bundle(folder)
    expected = alone(Decoder(again, Device.CPU), again.vocabulary, asked)
    with running(model.engine) as engine:
        reader = Reader()
        engine.submit(asked, reader)
        assert reader.wait() == expected


def test_bundle_that_fails_its_probe_is_not_served(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(bundle: Bundle, *_: object) -> None:
        raise BundleError(f"{bundle.folder}: no numbers")

    monkeypatch.setattr("serving.engine.served.probe", refuse)
    with pytest.raises(BundleError, match="no numbers"):
        Models.load([str(tiny_bundles["gru"])], EngineOptions())


def test_damaged_bundle_is_read_once(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny_bundles["gru"], tmp_path / "live"))
    (folder / WEIGHTS).write_bytes(b"")
    read = []

    def counted(path: Path) -> Bundle:
        read.append(path)
        return load_bundle(path)

    monkeypatch.setattr("serving.engine.served.load_bundle", counted)
    with pytest.raises(BundleError, match=r"weights\.bin: has 0 bytes"):
        Models.load([str(folder)], EngineOptions())
    assert read == [folder]


def test_first_model_is_the_default_and_unknown_names_get_the_nearest(
    tiny_bundles: dict[Cell, Path],
) -> None:
    models = Models.load([str(tiny_bundles["lstm"]), str(tiny_bundles["gru"])], EngineOptions())
    assert models.get("") is models.get("lstm")
    assert [model.name for model in models] == ["lstm", "gru"]
    with pytest.raises(UnknownModelError, match=r"model: no model 'lsmt' .* did you mean 'lstm'\?"):
        models.get("lsmt")
    with pytest.raises(UnknownModelError, match="known: gru, lstm"):
        models.get("xyz")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("model", (), "name one with"),
        ("port", 65536, "0 to 65535"),
        ("port", -1, "0 to 65535"),
        ("slots", 0, "1 to 65536"),
        ("threads", 0, "1 to 1024"),
        ("buffer_symbols", 0, "1 to 2,147,483,647"),
        ("queue_limit", -1, "0 to 2,147,483,647"),
        ("run_ms", 0.0, "0.1 to 10000"),
        ("run_ms", float("nan"), "0.1 to 10000"),
        ("run_ms", float("inf"), "0.1 to 10000"),
        ("messages_per_second", 0.0, "above 0 and at most"),
        ("session_idle_seconds", 1e12, "0 to 315,360,000"),
        ("max_connection_age_seconds", 24.9 * 86400, "0 to 1,728,000"),
        ("max_message_bytes", 2**31, "1024 to 1,073,741,824"),
        ("keepalive_seconds", 1e-9, "0.1 to 86400"),
        ("grace_seconds", -0.5, "0 to 86400"),
    ],
)
def test_setting_out_of_range_is_refused(name: str, value: object, allowed: str) -> None:
    values = {"model": ("x",), name: value}
    with pytest.raises(SettingsError, match=f"^{name}.*{allowed}.*--{name.replace('_', '-')}"):
        ServerSettings(**values).validate()  # type: ignore[arg-type]
