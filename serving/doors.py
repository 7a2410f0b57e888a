"""The doors of a server: gRPC with health, reflection and Triton, and HTTP, behind one gate."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.access.call import CallCounts, Span
from serving.access.callers import Callers
from serving.access.gate import Gate
from serving.access.tls import server_context, server_credentials
from serving.access.tokens import Tokens
from serving.engine.models import Models
from serving.rpc.gate import METHODS, PATHS, RpcGate
from serving.rpc.health import Health
from serving.rpc.reflection import add_reflection
from serving.rpc.servicer import TextGenerationServicer
from serving.rpc.translation import longest_messages
from serving.settings import ServerSettings
from serving.triton import handlers as triton
from serving.triton import inference_pb2
from serving.triton.inference import Inference
from serving.triton.sequences import Sequences
from serving.triton.servicer import InferenceServicer
from unroll.errors import SettingsError
from unroll.v1 import text_generation_pb2 as pb
from unroll.v1.text_generation_pb2_grpc import add_TextGenerationServiceServicer_to_server

if TYPE_CHECKING:
    from serving.http.door import HttpDoor
    from serving.http.paths import Path

LAST_WORDS_SECONDS = 0.25  # for statuses on their way, once all calls have ended
PENDING_AT_MOST = 2**20  # the gate refuses what is too much, with a status that says so
CUT_SECONDS = 1.0  # for the last messages of streams that the grace time's end cut off


class Doors:
    """Lets calls in, by all protocols.

    Args:
        settings: where and how.
        models: what is served.
        servicer: answers the calls of our own service.
        sequences: of Triton's clients.
        span: opens what surrounds a call in a trace.
        shares_port: whether other processes listen on the same ports, too.

    Attributes:
        health: what balancers are told.
        calls: counts calls.
        gate: that all calls pass.
        http: the door for HTTP; None without a port for it.
        port: of gRPC.

    Raises:
        SettingsError: the tokens or a certificate are wrong, or a port is taken.
    """

    def __init__(
        self,
        settings: ServerSettings,
        models: Models,
        servicer: TextGenerationServicer,
        sequences: Sequences,
        span: Span,
        *,
        shares_port: bool,
    ) -> None:
        self._settings = settings
        self._shares_port = shares_port
        self.health = Health()
        self.port = settings.port
        inference = Inference(servicer.texts, sequences)
        self._triton = InferenceServicer(models, self.health, inference)
        limits, state = servicer.texts.limits, max(model.engine.layout.size for model in models)
        longest = longest_messages(limits, state) | triton.longest_messages(limits)
        longest = {name: min(size, settings.max_message_bytes) for name, size in longest.items()}
        paths = self._http_paths(models, servicer, inference, longest)
        self.calls = CallCounts([*METHODS, *triton.METHODS, *(path.name for path in paths)])
        self.gate = _gate(settings, self.calls, span)
        self.http = self._open_http(paths)
        self._grpc = self._open_grpc(servicer, longest)
        self.port = self._listen()

    async def open(self) -> None:
        """Let calls in."""
        await self._grpc.start()
        if self.http is not None:
            await self.http.start()

    async def close(self, seconds: float) -> None:
        """Give running calls so long, end the rest, close."""
        self._triton.close()
        await self.gate.wait_idle(max(seconds, CUT_SECONDS))
        self.health.end_watches()
        if self.http is not None:
            await self.http.close()
        await self._grpc.stop(LAST_WORDS_SECONDS)
        await self.gate.wait_ended(CUT_SECONDS)  # gRPC leaves them a moment after they are cut off

    @property
    def address(self) -> str:
        """Where it listens, as a client writes it."""
        host = self._settings.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def http_address(self) -> str:
        """Where the HTTP door is, as a URL; empty without one."""
        if self.http is None:
            return ""
        scheme = "http" if self._settings.tls is None else "https"
        host = self.address.rpartition(":")[0]
        return f"{scheme}://{host}:{self.http.port}"

    def _open_grpc(
        self, servicer: TextGenerationServicer, longest: Mapping[str, int]
    ) -> grpc.aio.Server:
        """Make the gRPC server with all its services behind the gate."""
        gate = RpcGate(self.gate, longest, PATHS | triton.PATHS, triton.OPEN_PATHS)
        # Handlers get the gate's Call, of which the stubs know nothing.
        methods: Any = gate
        add_TextGenerationServiceServicer_to_server(servicer, methods)  # type: ignore[arg-type]
        health_pb2_grpc.add_HealthServicer_to_server(self.health, methods)
        triton.add_inference(methods, self._triton)
        add_reflection(methods, [pb.DESCRIPTOR, health_pb2.DESCRIPTOR, inference_pb2.DESCRIPTOR])
        options = _channel_options(self._settings, shares_port=self._shares_port)
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((gate,))
        return server

    def _http_paths(
        self,
        models: Models,
        servicer: TextGenerationServicer,
        inference: Inference,
        longest: dict[str, int],
    ) -> list["Path"]:
        """List HTTP's routes; without a port for it, none of its packages is loaded."""
        if self._settings.http_port is None:
            return []
        from serving.http.generate import Generation
        from serving.http.paths import paths

        generation = Generation(models, self.health, inference)
        return paths(models, servicer, generation, longest)

    def _open_http(self, paths: list["Path"]) -> "HttpDoor | None":
        settings = self._settings
        if settings.http_port is None:
            return None
        from serving.http.app import make_app
        from serving.http.connection import ConnectionLimits
        from serving.http.door import HttpDoor

        origins, most = settings.http_allow_origin, settings.max_message_bytes
        app = make_app(paths, self.gate, self.health, most, origins)
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

    def _listen(self) -> int:
        tls = self._settings.tls
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


def _gate(settings: ServerSettings, counts: CallCounts, span: Span) -> Gate:
    return Gate(
        None if settings.tokens is None else Tokens(settings.tokens),
        Callers(settings.caller_limits),
        Callers(settings.stranger_limits, what="calls without a valid token from this address"),
        counts,
        span,
        asks_certificates=settings.tls is not None and settings.tls.client_ca is not None,
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
