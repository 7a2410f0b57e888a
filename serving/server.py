"""The server: service, health and reflection on one port, from start to drain."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry, ProcessCollector

from serving.access.call import CallCounts
from serving.access.callers import CallerLimits, Callers
from serving.access.gate import Gate, no_span
from serving.access.tls import server_context, server_credentials
from serving.access.tokens import Tokens
from serving.engine.models import Models
from serving.rpc.gate import METHODS, PATHS, RpcGate
from serving.rpc.handlers import GenericHandlers
from serving.rpc.health import Health
from serving.rpc.keys import WatchedKeys
from serving.rpc.reflection import add_reflection
from serving.rpc.servicer import TextGenerationServicer
from serving.rpc.translation import longest_messages
from serving.sessions.open_store import open_store
from serving.sessions.registry import Sessions
from serving.settings import ServerSettings
from serving.telemetry.logs import hide_callers_doing
from serving.telemetry.metrics import Metrics
from serving.telemetry.page import MetricsPage
from serving.telemetry.tracing import Tracing, open_tracing
from serving.texts.delivery import LoopDelivery
from serving.texts.limits import Limits
from serving.texts.origins import Origins
from serving.triton import handlers as triton
from serving.triton import inference_pb2
from serving.triton.inference import Inference
from serving.triton.sequences import Sequences
from serving.triton.servicer import InferenceServicer
from unroll.errors import SettingsError, StoreError
from unroll.v1 import text_generation_pb2 as pb
from unroll.v1.text_generation_pb2_grpc import add_TextGenerationServiceServicer_to_server

if TYPE_CHECKING:
    from serving.http.door import HttpDoor
    from serving.http.paths import Path

TIDY_SECONDS = 5.0
CHORES = 2  # threads beside those of calls: for a reload, and the end that does not wait for it
LAST_WORDS_SECONDS = 0.25  # for statuses on their way, once all calls have ended
PENDING_AT_MOST = 2**20  # the gate refuses what is too much, with a status that says so
CUT_SECONDS = 1.0  # for the last messages of streams that the grace time's end cut off

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
        host = self.settings.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def http_address(self) -> str:
        """Where the HTTP door is, as a URL; empty without one."""
        if self.http is None:
            return ""
        scheme = "http" if self.settings.tls is None else "https"
        host = self.address.rpartition(":")[0]
        return f"{scheme}://{host}:{self.http.port}"

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
        limits = _limits(self.settings)
        self._servicer = TextGenerationServicer(
            self.models,
            self.sessions,
            Origins(self.models, self.sessions, self._keys.keys),
            limits,
            self._store,
        )
        self._health = Health()
        self._sequences = Sequences(
            self.models,
            self._keys.keys,
            limits,
            most=self.settings.sessions_in_memory,
            per_caller=self.settings.max_sessions_per_caller,
        )
        self._inference = Inference(self._servicer.texts, self._sequences)
        self._triton = InferenceServicer(self.models, self._health, self._inference)
        state = max(model.engine.layout.size for model in self.models)
        longest = longest_messages(limits, state) | triton.longest_messages(limits)
        paths = self._http_paths(longest)
        self.calls = CallCounts([*METHODS, *triton.METHODS, *(path.name for path in paths)])
        self._tracing = open_tracing(self.settings.otel_endpoint)
        self.gate = _gate(self.settings, self.calls, self._tracing)
        self.http = self._open_http(paths)
        self._grpc = self._open_grpc(longest)
        self.port = self._listen()
        self.metrics_page = self._open_metrics()
        self.models.start()
        self._tell_health()
        await self._grpc.start()
        if self.http is not None:
            await self.http.start()
        self._tidying = asyncio.create_task(self._tidy())
        self._reloading = asyncio.Lock()

    def _open_grpc(self, longest: Mapping[str, int]) -> grpc.aio.Server:
        """Make the gRPC server with all its services behind the gate."""
        server = grpc.aio.server(
            interceptors=[RpcGate(self.gate, longest, PATHS | triton.PATHS, triton.OPEN_PATHS)],
            options=_channel_options(self.settings, shares_port=self._shares_port),
        )
        # Handlers get the gate's Call, of which the stubs know nothing.
        methods: Any = GenericHandlers(server)
        add_TextGenerationServiceServicer_to_server(self._servicer, methods)  # type: ignore[arg-type]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, methods)
        triton.add_inference(server, self._triton)
        add_reflection(server, [pb.DESCRIPTOR, health_pb2.DESCRIPTOR, inference_pb2.DESCRIPTOR])
        return server

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
        self._health.drain()
        await self._do(partial(self.models.close, grace_seconds))
        self._triton.close()
        await self.gate.wait_idle(max(ends - self._loop.time(), CUT_SECONDS))
        self._health.end_watches()
        if self.http is not None:
            await self.http.close()
        await self._grpc.stop(LAST_WORDS_SECONDS)
        await self.gate.wait_ended(CUT_SECONDS)  # gRPC leaves them a moment after they are cut off
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
        self._store = await open_store(self.settings.store_options, self._tell_health)
        self.sessions = Sessions(
            self._store,
            self.models.layouts,
            marks=self.settings.session_marks,
            idle_seconds=self.settings.session_idle_seconds,
            per_caller=self.settings.max_sessions_per_caller,
        )

    def _http_paths(self, longest: dict[str, int]) -> list["Path"]:
        """List HTTP's routes; without a port for it, none of its packages is loaded."""
        if self.settings.http_port is None:
            return []
        from serving.http.generate import Generation
        from serving.http.paths import paths

        generation = Generation(self.models, self._health, self._inference)
        return paths(self.models, self._servicer, generation, longest)

    def _open_http(self, paths: list["Path"]) -> "HttpDoor | None":
        settings = self.settings
        if settings.http_port is None:
            return None
        from serving.http.app import make_app
        from serving.http.connection import ConnectionLimits
        from serving.http.door import HttpDoor

        origins, most = settings.http_allow_origin, settings.max_message_bytes
        app = make_app(paths, self.gate, self._health, most, origins)
        tls = None if settings.tls is None else server_context(settings.tls)
        limits = ConnectionLimits(
            connections=settings.max_connections,
            silent_seconds=settings.keepalive_seconds,
            answer_seconds=settings.keepalive_timeout_seconds,
            age_seconds=settings.max_connection_age_seconds,
        )
        return HttpDoor(
            app, settings.host, settings.http_port, limits, tls, shares_port=self._shares_port
        )

    def _open_metrics(self) -> MetricsPage | None:
        port = self.settings.metrics_port
        return None if port is None else MetricsPage(self.metrics, self.settings.host, port)

    @property
    def metrics(self) -> CollectorRegistry:
        """What Prometheus reads of this process."""
        registry = CollectorRegistry()
        registry.register(Metrics(self.models, self.sessions, self._store, self.calls))
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

    def _listen(self) -> int:
        tls = self.settings.tls
        credentials = None if tls is None else server_credentials(tls)
        try:
            if credentials is None:
                return self._grpc.add_insecure_port(self.address)
            return self._grpc.add_secure_port(self.address, credentials)
        except RuntimeError as error:
            raise SettingsError(
                f"host and port: cannot listen on {self.address}; is the port taken? choose "
                "another with --port, or 0 for a free one"
            ) from error

    def _tell_health(self) -> None:
        """Tell balancers which models can be used, and whether sessions can."""
        self._health.tell(
            {model.name: model.engine.has_failed for model in self.models},
            store_has_failed=self._store.has_failed,
        )
        if self.models.has_failed:
            self.engine_failed.set()


def _gate(settings: ServerSettings, counts: CallCounts, tracing: Tracing | None) -> Gate:
    limits = CallerLimits(
        calls=settings.max_calls_per_caller,
        rate=settings.rate_per_caller,
        burst=settings.burst_per_caller,
    )
    strangers = CallerLimits(rate=settings.rate_without_token, burst=settings.burst_without_token)
    return Gate(
        None if settings.tokens is None else Tokens(settings.tokens),
        Callers(limits),
        Callers(strangers, what="calls without a valid token from this address"),
        counts,
        no_span if tracing is None else tracing.span,
        asks_certificates=settings.tls is not None and settings.tls.client_ca is not None,
    )


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


def _channel_options(settings: ServerSettings, *, shares_port: bool) -> list[tuple[str, int]]:
    options = {
        "grpc.max_receive_message_length": settings.max_message_bytes,
        "grpc.max_send_message_length": settings.max_message_bytes,
        "grpc.max_allowed_incoming_connections": settings.max_connections,
        "grpc.max_concurrent_streams": settings.max_streams_per_connection,
        # By default a call that has ended still counts as a stream until Python has let go of it,
        # and the next one, which the client sends in its place, ends without a word of ours.
        "grpc.http.overload_protection": 0,
        # Beyond 1,000 calls that Python has not seen yet, gRPC would cancel some without a word.
        "grpc.server.max_pending_requests": PENDING_AT_MOST,
        "grpc.server.max_pending_requests_hard_limit": PENDING_AT_MOST,
        # By default windows grow with the traffic, and megabytes wait for whoever is not let in.
        "grpc.http2.bdp_probe": 0,
        # Without being asked to, two servers on one port would share its calls, unnoticed.
        "grpc.so_reuseport": int(shares_port),
        "grpc.keepalive_time_ms": round(settings.keepalive_seconds * 1e3),
        "grpc.keepalive_timeout_ms": round(settings.keepalive_timeout_seconds * 1e3),
        # By default a client that pings often, or while it has no call, is disconnected.
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_ping_strikes": 0,
        # gRPC's own pings, on which the others wait, have a minute, and two go without an answer.
        "grpc.http2.ping_timeout_ms": round(settings.keepalive_timeout_seconds * 1e3),
        "grpc.http2.max_pings_without_data": 0,
    }
    if settings.max_connection_age_seconds:
        options["grpc.max_connection_age_ms"] = round(settings.max_connection_age_seconds * 1e3)
        options["grpc.max_connection_age_grace_ms"] = round(
            settings.max_connection_age_grace_seconds * 1e3
        )
    return list(options.items())
