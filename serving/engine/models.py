"""The models that one server serves, each with an engine of its own.

A name may get a new bundle while the server runs. Then the old one is retired: no new text begins
on it, and what stands somewhere in its texts (sessions, capsules, running requests) goes on there.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from serving.engine.options import EngineOptions
from serving.engine.sequences.sequence import Delivery
from serving.engine.served import ServedModel, read_whole
from serving.engine.workers.outbox import call_listeners
from unroll.bundle.folder import Bundle
from unroll.errors import SettingsError, UnknownModelError, UnrollError, nearest, shown

log = logging.getLogger(__name__)

NAME_SHOWN = 64  # symbols of an unknown name in its error; comparing longer ones takes seconds


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
    """Served models by name, in order; the first is the default. Any thread may ask.

    Args:
        served: one or more, each name once.
        make: makes a model of a name and a bundle; for `reload`.
        keep_retired: how many retired models of a name stay, 0 or more.
    """

    def __init__(
        self, served: Iterable[ServedModel], make: Make | None = None, *, keep_retired: int = 1
    ) -> None:
        self._lock = threading.Lock()  # guards the two below
        self._by_name = {model.name: model for model in served}
        self._retired: list[ServedModel] = []  # the longest ago first
        assert self._by_name
        self._make = make
        self._keep_retired = keep_retired
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
            return ServedModel.of(name, bundle, options, deliver, on_failure)

        served = [read_whole(folder, partial(make, name)) for name, folder in folders.items()]
        return cls(served, make, keep_retired=keep_retired)

    def reload(self) -> list[ServedModel]:
        """Reload all folders; a model whose folder holds another bundle switches to it.

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
                log.error("model %s: the loaded bundle stays: %s", model.name, error)
            except Exception:
                log.exception("model %s: the loaded bundle stays", model.name)
        return self._drop()

    def _renew(self, old: ServedModel) -> None:
        read_whole(old.bundle.folder, partial(self._put, old))

    def _put(self, old: ServedModel, bundle: Bundle) -> None:
        """Let a bundle take a model's place, unless it is the same."""
        assert self._make is not None, "models that were not loaded cannot be loaded again"
        fingerprint = bundle.manifest.fingerprint
        if fingerprint == old.fingerprint:
            log.info("model %s: the same bundle, fingerprint %.12s", old.name, fingerprint)
            return
        known = (m for m in self.everyone if (m.name, m.fingerprint) == (old.name, fingerprint))
        new = next(known, None)
        if new is None:
            new = self._make(old.name, bundle)
            new.engine.start()
        with self._lock:
            self.layouts[fingerprint] = new.engine.layout
            self._by_name[old.name] = new
            self._retired = [model for model in (*self._retired, old) if model is not new]
        log.info(
            "model %s: fingerprint %.12s for new texts; requests and sessions that started on "
            "%.12s stay on it",
            old.name,
            fingerprint,
            old.fingerprint,
        )

    def _drop(self) -> list[ServedModel]:
        dropped: list[ServedModel] = []
        with self._lock:
            for name in self._by_name:
                old = [model for model in self._retired if model.name == name]
                dropped += old[: max(len(old) - self._keep_retired, 0)]
            self._retired = [model for model in self._retired if model not in dropped]
            left = {model.fingerprint for model in (*self._by_name.values(), *self._retired)}
            for model in dropped:
                if model.fingerprint not in left:
                    self.layouts.pop(model.fingerprint, None)
        return dropped

    def get(self, name: str) -> ServedModel:
        """Find a model; the empty name means the default.

        Raises:
            UnknownModelError: no model has the name; the nearest is named, or all.
        """
        with self._lock:
            by_name = dict(self._by_name)
        if not name:
            return next(iter(by_name.values()))
        if name not in by_name:
            advice = nearest(name[:NAME_SHOWN], by_name)
            raise UnknownModelError("model", f"no model {shown(name)} is served here; {advice}")
        return by_name[name]

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
        with self._lock:
            return [*self._by_name.values(), *reversed(self._retired)]

    def __iter__(self) -> Iterator[ServedModel]:
        with self._lock:
            return iter(list(self._by_name.values()))

    def __len__(self) -> int:
        return len(self._by_name)

    def start(self) -> None:
        """Start the engines."""
        for model in self:
            model.engine.start()

    def refuse(self) -> None:
        """Let all engines refuse new sequences from now on."""
        for model in self.everyone:
            model.engine.refuse()

    def close(self, drain_seconds: float = 0.0) -> None:
        """Close all engines at once: refuse new sequences, give running ones some time."""
        models = self.everyone
        with ThreadPoolExecutor(len(models)) as pool:
            for model in models:
                pool.submit(model.engine.close, drain_seconds=drain_seconds)
