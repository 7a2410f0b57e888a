"""The server, from start to drain: models, sessions and doors."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector

from serving.access.gate import no_span
from serving.doors import Doors
from serving.engine.models import Models
from serving.rpc.keys import WatchedKeys
from serving.rpc.servicer import TextGenerationServicer
from serving.sessions.open_store import open_store
from serving.sessions.registry import Sessions
from serving.settings import ServerSettings
from serving.telemetry.logs import hide_callers_doing
from serving.telemetry.metrics import Metrics
from serving.telemetry.page import MetricsPage
from serving.telemetry.tracing import open_tracing
from serving.texts.delivery import LoopDelivery
from serving.texts.limits import Limits
from serving.texts.origins import Origins
from serving.triton.sequences import Sequences
from unroll.errors import StoreError

TIDY_SECONDS = 5.0
CHORES = 2  # threads beside those of calls: for a reload, and the end that does not wait for it

log = logging.getLogger(__name__)
T = TypeVar("T")


class Server:
    """Serves models until it is stopped.

        async with Server(settings) as server: ...  # listens on server.port

    Args:
        settings: what to serve, where and how.
        shares_port: whether other processes listen on the same ports, too.
    """

    def __init__(self, settings: ServerSettings, *, shares_port: bool = False) -> None:
        settings.validate()
        self._shares_port = shares_port
        self.settings = settings
        self.port = settings.port

    @property
    def address(self) -> str:
        """Where it listens, as a client writes it."""
        return self.doors.address

    @property
    def http_address(self) -> str:
        """Where the HTTP door is, as a URL; empty without one."""
        return self.doors.http_address

    async def start(self) -> None:
        """Load the models, then listen.

        Raises:
            BundleError: a bundle is damaged.
            DeviceError: the device is not there.
            SettingsError: a model's source, the capsule keys, the tokens, a certificate, the
                state_dir or the store is wrong, or a port is taken.
        """
        hide_callers_doing()
        self._loop = asyncio.get_running_loop()
        self._chores = ThreadPoolExecutor(CHORES, "chores")
        self.engine_failed = asyncio.Event()
        delivery = LoopDelivery(self._loop, self._tell_health)
        self.models = Models.load(
            self.settings.model,
            self.settings.engine,
            delivery,
            on_failure=delivery.tell_failure,
            keep_retired=self.settings.keep_retired,
        )
        self._keys = WatchedKeys(self.settings.capsule_keys)
        await self._open_sessions()
        self._tracing = open_tracing(self.settings.otel_endpoint)
        self.doors = self._make_doors()
        self.port = self.doors.port
        self.metrics_page = self._open_metrics()
        self.models.start()
        self._tell_health()
        await self.doors.open()
        self._tidying = asyncio.create_task(self._tidy())
        self._reloading = asyncio.Lock()

    def _make_doors(self) -> Doors:
        limits = _limits(self.settings)
        servicer = TextGenerationServicer(
            self.models,
            self.sessions,
            Origins(self.models, self.sessions, self._keys.keys),
            limits,
            self._store,
        )
        self._sequences = Sequences(
            self.models,
            self._keys.keys,
            limits,
            most=self.settings.sessions_in_memory,
            per_caller=self.settings.max_sessions_per_caller,
        )
        return Doors(
            self.settings,
            self.models,
            servicer,
            self._sequences,
            no_span if self._tracing is None else self._tracing.span,
            shares_port=self._shares_port,
        )

    async def reload(self) -> None:
        """Serve the bundles that the models' folders hold now; see Models.reload.

        Models that are served no more have the grace time to end what runs on them.
        """
        async with self._reloading:
            dropped = await self._do(self.models.reload)
        self._tell_health()
        if not dropped:
            return
        pool = ThreadPoolExecutor(len(dropped))  # of their own: scores need the default one
        closing = [
            self._loop.run_in_executor(
                pool, partial(model.engine.close, drain_seconds=self.settings.grace_seconds)
            )
            for model in dropped
        ]
        pool.shutdown(wait=False)
        await asyncio.gather(*closing)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Refuse new work, give running calls some time, end the rest.

        The port stays open meanwhile, so that health checks can tell the news. Stopping again
        does no harm.
        """
        ends = self._loop.time() + grace_seconds
        self.models.refuse()
        self.doors.health.drain()
        await self._do(partial(self.models.close, grace_seconds))
        await self.doors.close(ends - self._loop.time())
        self._tidying.cancel()
        if self.metrics_page is not None:
            self.metrics_page.close()
        if self._tracing is not None:
            await self._do(self._tracing.close)
        await self.sessions.settle()
        await self._store.close()

    async def _do(self, chore: Callable[[], T]) -> T:
        """Do something that takes long on a thread of the server's own."""
        return await self._loop.run_in_executor(self._chores, chore)

    async def _open_sessions(self) -> None:
        self._store = await open_store(self.settings, self._tell_health)
        self.sessions = Sessions(
            self._store,
            self.models.layouts,
            marks=self.settings.session_marks,
            idle_seconds=self.settings.session_idle_seconds,
            per_caller=self.settings.max_sessions_per_caller,
        )

    def _open_metrics(self) -> MetricsPage | None:
        port = self.settings.metrics_port
        return None if port is None else MetricsPage(self.metrics, self.settings.host, port)

    @property
    def metrics(self) -> CollectorRegistry:
        """What Prometheus reads of this process."""
        registry = CollectorRegistry()
        registry.register(Metrics(self.models, self.sessions, self._store, self.doors.calls))
        ProcessCollector(registry=registry)
        return registry

    async def _tidy(self) -> None:
        """Every few seconds, renew the capsule keys and let sessions expire."""
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            self._keys.renew()
            try:
                await self._sequences.expire()
                await self.sessions.expire()
            except StoreError as error:  # a full disk may have room again; health follows
                log.error("expired sessions stay: %s; next try in %g s", error, TIDY_SECONDS)
            except Exception:
                log.exception("expired sessions stay; next try in %g s", TIDY_SECONDS)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _tell_health(self) -> None:
        """Tell balancers which models can be used, and whether sessions can."""
        self.doors.health.tell(
            {model.name: model.engine.has_failed for model in self.models},
            store_has_failed=self._store.has_failed,
        )
        if self.models.has_failed:
            self.engine_failed.set()


def _limits(settings: ServerSettings) -> Limits:
    return Limits(
        prompt=settings.max_prompt_symbols,
        new=settings.max_new_symbols,
        score=settings.max_score_symbols,
        inspect=settings.max_inspect_symbols,
        units=settings.max_inspect_units,
        stops=settings.max_stop_strings,
        buffer=settings.buffer_symbols,
        message=settings.max_message_bytes,
    )
