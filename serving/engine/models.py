"""The models that one server serves, each with an engine of its own.

A name may get a new bundle while the server runs. Then the old one is retired: no new text begins
on it, and what stands somewhere in its texts (sessions, capsules, running requests) goes on there.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from pathlib import Path

from serving.engine.engine import Engine, call_listeners
from serving.engine.sequence import Delivery
from serving.runtime.decoder import Decoder
from serving.runtime.device import DeviceRunner
from serving.runtime.host import HostRunner, Runner
from serving.runtime.onnx import Device
from unroll.bundle.folder import Bundle, load_bundle
from unroll.errors import SettingsError, UnknownModelError, UnrollError, nearest, shown

log = logging.getLogger(__name__)

NAME_SHOWN = 64  # symbols of an unknown name in its error; comparing longer ones takes seconds


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How each model is run.

    Attributes:
        device: where to compute.
        threads: threads of one operator on the CPU, 1 or more.
        slots: rows of a worker's loop run at most, 1 or more.
        workers: threads that make loop runs side by side, 1 or more; they share the weights.
        queue_limit: sequences that may wait for a slot, 0 or more.
        run_seconds: how long a loop run may take, above 0.
        chunks_per_second: how many chunks there may be of all sequences together, above 0.
        prefix_bytes: memory for the states of prompts that were read; 0 keeps none.
    """

    device: Device = Device.CPU
    threads: int = 1
    slots: int = 64
    workers: int = 1
    queue_limit: int = 1024
    run_seconds: float = 0.01
    chunks_per_second: float = inf
    prefix_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A loaded bundle and the engine that runs it, under the name that clients ask for."""

    name: str
    bundle: Bundle
    decoder: Decoder
    engine: Engine

    @property
    def fingerprint(self) -> str:
        """Of its bundle, in hex."""
        return self.bundle.manifest.fingerprint


def parse_source(source: str) -> tuple[str, Path]:
    """Read `NAME=FOLDER`, or `FOLDER`, which is named after the folder.

    Raises:
        SettingsError: the name or the folder is empty.
    """
    name, equals, folder = source.partition("=")
    if not equals or "/" in name:  # a folder's path may hold an equals sign
        folder = source
        name = Path(source).resolve().name if source else ""
    if not name or not folder:
        raise SettingsError(f"model = {source!r}: must be NAME=FOLDER or FOLDER; change --model")
    return name, Path(folder)


Make = Callable[[str, Bundle], ServedModel]


class Models:
    """Served models by name, in order; the first is the default.

    Args:
        served: one or more, each name once.
        make: makes a model of a name and a bundle; for `reload`.
        keep_retired: how many retired models of a name stay, 0 or more.
    """

    def __init__(
        self, served: Iterable[ServedModel], make: Make | None = None, *, keep_retired: int = 1
    ) -> None:
        self._by_name = {model.name: model for model in served}
        assert self._by_name
        self._make = make
        self._keep_retired = keep_retired
        self._retired: list[ServedModel] = []  # the longest ago first
        self.layouts = {model.fingerprint: model.engine.layout for model in self}

    @classmethod
    def load(
        cls,
        sources: Iterable[str],
        options: EngineOptions,
        deliver: Callable[[Delivery], None] = call_listeners,
        *,
        on_failure: Callable[[], None] = lambda: None,
        keep_retired: int = 1,
    ) -> "Models":
        """Load bundles; the engines are not started yet.

        Args:
            sources: `NAME=FOLDER` or `FOLDER`, one or more.
            options: how to run them.
            deliver: see Engine.
            on_failure: see Engine; called for each engine that fails.
            keep_retired: how many retired models of a name stay, 0 or more.

        Raises:
            SettingsError: a source cannot be read, or two have one name.
            BundleError: a bundle is damaged.
            DeviceError: the device is not there.
        """
        folders: dict[str, Path] = {}
        for source in sources:
            name, folder = parse_source(source)
            if name in folders:
                raise SettingsError(
                    f"model = {source!r}: the name {name!r} is taken by {folders[name]}; give each "
                    "bundle a name of its own with --model NAME=FOLDER"
                )
            folders[name] = folder

        def make(name: str, bundle: Bundle) -> ServedModel:
            return _make(name, bundle, options, deliver, on_failure)

        served = [make(name, load_bundle(folder)) for name, folder in folders.items()]
        return cls(served, make, keep_retired=keep_retired)

    def reload(self) -> list[ServedModel]:
        """Look at all folders again; where one holds another bundle, its name gets that one.

        A bundle that cannot be loaded is logged and left, and its name stays with what it has. This
        takes as long as loading does; another thread may answer calls meanwhile.

        Returns:
            The models that are served no more, retired for longer than `keep_retired` allows; the
            caller closes their engines.
        """
        for model in list(self):
            try:
                self._renew(model)
            except UnrollError as error:
                log.error("model %s stays as it is: %s", model.name, error)
            except Exception:
                log.exception("model %s stays as it is", model.name)
        return self._drop()

    def _renew(self, old: ServedModel) -> None:
        assert self._make is not None, "models that were not loaded cannot be loaded again"
        bundle = load_bundle(old.bundle.folder)
        fingerprint = bundle.manifest.fingerprint
        if fingerprint == old.fingerprint:
            log.info("model %s: the same bundle, fingerprint %.12s", old.name, fingerprint)
            return
        known = (m for m in self._retired if (m.name, m.fingerprint) == (old.name, fingerprint))
        new = next(known, None)
        if new is None:
            new = self._make(old.name, bundle)
            new.engine.start()
            self.layouts[fingerprint] = new.engine.layout
        # In this order, both can be found at any moment by the thread that answers calls.
        self._retired = [*self._retired, old]
        self._by_name[old.name] = new
        self._retired = [model for model in self._retired if model is not new]
        log.info(
            "model %s: fingerprint %.12s from now on; what began with %.12s goes on with that",
            old.name,
            fingerprint,
            old.fingerprint,
        )

    def _drop(self) -> list[ServedModel]:
        dropped: list[ServedModel] = []
        for name in self._by_name:
            old = [model for model in self._retired if model.name == name]
            dropped += old[: max(len(old) - self._keep_retired, 0)]
        self._retired = [model for model in self._retired if model not in dropped]
        for model in dropped:
            if self.serving(model.fingerprint) is None:
                del self.layouts[model.fingerprint]
        return dropped

    def get(self, name: str) -> ServedModel:
        """Find a model; the empty name means the default.

        Raises:
            UnknownModelError: no model has the name; the nearest is named, or all.
        """
        if not name:
            return next(iter(self))
        if name not in self._by_name:
            advice = nearest(name[:NAME_SHOWN], self._by_name)
            raise UnknownModelError("model", f"no model {shown(name)} is served here; {advice}")
        return self._by_name[name]

    def serving(self, fingerprint: str) -> ServedModel | None:
        """Find a model, perhaps a retired one, by its fingerprint, in hex."""
        matching = (model for model in self.everyone if model.fingerprint == fingerprint)
        return next(matching, None)

    @property
    def has_failed(self) -> bool:
        """Whether the engine of a model that new texts begin on has failed."""
        return any(model.engine.has_failed for model in self)

    @property
    def everyone(self) -> list[ServedModel]:
        """All models, the retired ones last."""
        return [*self._by_name.values(), *reversed(self._retired)]

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def start(self) -> None:
        """Start the engines."""
        for model in self:
            model.engine.start()

    def close(self, drain_seconds: float = 0.0) -> None:
        """Close all engines side by side: refuse new sequences, give running ones some time."""
        models = self.everyone
        with ThreadPoolExecutor(len(models)) as pool:
            for model in models:
                pool.submit(model.engine.close, drain_seconds=drain_seconds)


def _make(
    name: str,
    bundle: Bundle,
    options: EngineOptions,
    deliver: Callable[[Delivery], None],
    on_failure: Callable[[], None],
) -> ServedModel:
    decoder = Decoder(bundle, options.device, options.threads)

    def new_runner(slots: int) -> Runner:
        if options.device is Device.CPU:
            return HostRunner(decoder, slots)
        return DeviceRunner(bundle, options.device, slots, options.threads)

    engine = Engine(
        bundle,
        decoder,
        slots=options.slots,
        workers=options.workers,
        queue_limit=options.queue_limit,
        run_seconds=options.run_seconds,
        chunks_per_second=options.chunks_per_second,
        prefix_bytes=options.prefix_bytes,
        new_runner=new_runner,
        on_failure=on_failure,
        deliver=deliver,
    )
    return ServedModel(name=name, bundle=bundle, decoder=decoder, engine=engine)
