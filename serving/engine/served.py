"""A bundle that is served: read whole, proved to work, with an engine of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.sequence import Delivery
from serving.runtime.inspector import Inspector
from serving.runtime.kernels import Kernels, open_decoder
from serving.runtime.onnx import Device
from serving.runtime.probe import probe
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.manifest import INSPECT, MANIFEST
from unroll.errors import BundleError

T = TypeVar("T")
ATTEMPTS = 5  # at a folder that is replaced again and again while it is read


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A loaded bundle and the engine that runs it, under the name that clients ask for.

    Attributes:
        name: as clients write it.
        bundle: as it was loaded.
        engine: runs it.
        provider: ONNX Runtime's name of what computes the loop runs.
        kernels: ONNX Runtime's, or native ones.
        inspector: shows what it does along a text; None for a bundle of before.
    """

    name: str
    bundle: Bundle
    engine: Engine
    provider: str
    kernels: Kernels
    inspector: Inspector | None

    @property
    def fingerprint(self) -> str:
        """Of its bundle, in hex."""
        return self.bundle.manifest.fingerprint

    @classmethod
    def of(
        cls,
        name: str,
        bundle: Bundle,
        options: EngineOptions,
        deliver: Callable[[Delivery], None],
        on_failure: Callable[[], None],
    ) -> "ServedModel":
        """Make the engine of a bundle; it is not started yet. See Engine.

        Raises:
            BundleError: the bundle cannot do what its manifest says.
            DeviceError: the device is not there, or cannot run every node.
        """
        kernels = options.kernels if options.device is Device.CPU else Kernels.ONNX
        decoder = open_decoder(bundle, kernels, options.threads)
        inspector = (
            Inspector(bundle, options.threads) if INSPECT in bundle.manifest.graphs else None
        )
        probe(bundle, decoder, inspector)
        engine = Engine(bundle, decoder, options, deliver=deliver, on_failure=on_failure)
        return cls(
            name=name,
            bundle=bundle,
            engine=engine,
            provider=options.device.provider,
            kernels=options.kernels,
            inspector=inspector,
        )


def read_whole(folder: Path, use: Callable[[Bundle], T]) -> T:
    """Use the bundle in a folder; begin again where another one takes its place meanwhile.

    Raises:
        BundleError: as load_bundle, or as `use`.
    """
    for _ in range(ATTEMPTS - 1):
        seen = _stamp(folder)
        try:
            return use(load_bundle(folder))
        except BundleError:
            if _stamp(folder) == seen:
                raise
    return use(load_bundle(folder))


def _stamp(folder: Path) -> tuple[int, ...]:
    """Return what changes when a folder's manifest is replaced."""
    try:
        found = (folder / MANIFEST).stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
