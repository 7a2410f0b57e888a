"""The server's settings, with their ranges."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from serving.access.settings import AccessSettings
from serving.engine.options import EngineOptions
from serving.runtime.kernels import Kernels, check_kernels
from serving.runtime.onnx import Device
from serving.sessions.capsule import has_keys
from serving.sessions.settings import SessionSettings
from serving.telemetry.logs import LogFormat, LogLevel
from unroll.errors import SettingsError
from unroll.ranges import COUNT, Range, check_ranges
from unroll.terms import STOPS_AT_MOST, is_loopback

DAY = 86_400  # seconds; gRPC counts milliseconds in 32 bits, which end after 24.8 days


@dataclass(frozen=True, kw_only=True)
class PlaceSettings:
    """What is served and where, and where it is told how that goes."""

    model: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """Bundle to serve, as NAME=FOLDER, or FOLDER to name it after the folder. Repeat it for more;
    the first is the default model."""

    host: str = "127.0.0.1"
    """Address to listen on. An address that other machines can reach needs a certificate."""

    port: Annotated[int, Range(0, 65535)] = 50051
    """Port to listen on; 0 takes a free one."""

    http_port: Annotated[int | None, Range(0, 65535)] = None
    """Port for HTTP on the same host: OpenAI's completions, every method as JSON, Triton's generate
    and a page for browsers; 0 takes a free one. Off by default."""

    http_allow_origin: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """Origin of web pages that may call over HTTP, as https://HOST:PORT. Repeat it for more. By
    default only the server's own page may."""

    keep_retired: Annotated[int, Range(0, 1024)] = 1
    """Number of previous versions of each model that stay loaded after SIGHUP has reloaded a
    changed bundle, for the requests and sessions that started on them."""

    processes: Annotated[int, Range(1, 1024)] = 1
    """Number of server processes that share the ports. Each has workers, caches and limits of its
    own. They share sessions through the store or the state dir, or else through a temporary folder
    that is removed when the server ends."""

    port_file: Path | None = None
    """File to which the port is written once the server is ready."""

    metrics_port: Annotated[int | None, Range(0, 65535)] = None
    """Port of the Prometheus page, on the same host; 0 takes a free one. Off by default."""

    log_format: LogFormat = LogFormat.HUMAN
    """Log lines for people, or one JSON object a line."""

    log_level: LogLevel = LogLevel.INFO
    """Lowest level that is logged to standard error. `info` logs one line for each finished
    request."""

    otel_endpoint: str | None = None
    """Send OpenTelemetry traces to this address (OTLP over gRPC), as http://HOST:4317. Needs the
    extra `otel`. Off by default."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServerSettings(SessionSettings, AccessSettings, PlaceSettings):
    """Serve bundles over gRPC and, with `--http-port`, over HTTP.

    HTTP has OpenAI's completions, JSON and a page for browsers.
    """

    device: Device = Device.CPU
    """Device to compute on."""

    threads: Annotated[int, Range(1, 1024)] = 1
    """Threads for each operator of a model."""

    kernels: Kernels = Kernels.ONNX
    """What computes the texts: ONNX Runtime, or the native kernels, which are faster and have to be
    compiled first, by `make kernels` or `python -m serving.runtime.native`. On the CPU they need
    `--threads 1` and write the same texts."""

    workers: Annotated[int, Range(1, 1024)] = 1
    """Workers for each model. Each uses one core and has its own slots; all share the weights.
    Leave one core to the event loop: 1 is best on two cores."""

    slots: Annotated[int, Range(1, 65536)] = 64
    """Sequences that each worker computes at the same time."""

    queue_limit: Annotated[int, Range(0, COUNT)] = 1024
    """Sequences of one model that may wait for a slot. Further requests are refused."""

    run_ms: Annotated[float, Range(0.1, 10_000)] = 7.0
    """Maximum time of one run of the compiled loop, in milliseconds. A new request waits this long
    at most before its prompt is read."""

    messages_per_second: Annotated[float, Range(above=0, most=10**9)] = 1500.0
    """Maximum number of stream messages per second, for each model. Beyond it, each message carries
    more symbols; the first symbol of a stream never waits. A message costs the event
    loop about 0.1 ms, whatever its length."""

    prefix_cache_mb: Annotated[int, Range(0, 2**20)] = 64
    """Memory for the states after prompts, in MiB for each model. If a later prompt begins with a
    kept one, that part is not read again; 0 disables the cache."""

    buffer_symbols: Annotated[int, Range(1, COUNT)] = 4096
    """A stream pauses when this many of its symbols wait for a slow reader."""

    max_prompt_symbols: Annotated[int, Range(1, COUNT)] = 65536
    """Maximum length of a prompt, in symbols."""

    max_new_symbols: Annotated[int, Range(1, COUNT)] = 65536
    """Maximum number of new symbols that one request may ask for."""

    max_score_symbols: Annotated[int, Range(1, COUNT)] = 1_000_000
    """Maximum length of a text to score, in symbols."""

    max_inspect_symbols: Annotated[int, Range(1, COUNT)] = 10_000
    """Maximum length of a text to inspect or to find units by, in symbols. While units are found,
    each symbol takes 4 bytes of memory for each hidden unit."""

    max_inspect_units: Annotated[int, Range(0, COUNT)] = 64
    """Maximum number of hidden units that one inspection may show."""

    max_stop_strings: Annotated[int, Range(0, STOPS_AT_MOST)] = 8
    """Maximum number of stop strings in one request."""

    max_connections: Annotated[int, Range(1, 2**20)] = 10_000
    """Maximum number of connections. A further one is closed at once."""

    max_streams_per_connection: Annotated[int, Range(1, 2**20)] = 1024
    """Maximum number of calls at once on one connection. Further ones wait in the client."""

    max_message_bytes: Annotated[int, Range(1024, 2**30)] = 8 * 2**20
    """Maximum size of a message in either direction, in bytes."""

    grace_seconds: Annotated[float, Range(0, DAY)] = 30.0
    """After SIGTERM or SIGINT, running requests have this long to finish."""

    exit_on_engine_failure: Annotated[bool, Parameter(negative=())] = False
    """Exit with status 70 when a model's engine fails, so that a supervisor restarts the server. By
    default the process stays and reports NOT_SERVING."""

    keepalive_seconds: Annotated[float, Range(0.1, DAY)] = 60.0
    """Ping a silent client after this time."""

    keepalive_timeout_seconds: Annotated[float, Range(0.1, DAY)] = 20.0
    """A client that does not answer a ping within this time is disconnected, and its requests
    end."""

    max_connection_age_seconds: Annotated[float, Range(0, 20 * DAY)] = 3600.0
    """Close connections after this time (±10 %) so that clients rebalance; 0 disables. It also ends
    connections whose certificates are no longer trusted."""

    max_connection_age_grace_seconds: Annotated[float, Range(0, 20 * DAY)] = 300.0
    """Calls on a connection that is being closed have this long to finish. Then they end with
    UNAVAILABLE; streams with `resume` continue on a new connection."""

    def validate(self) -> None:
        """Check every range and every rule between settings.

        Raises:
            SettingsError: one is broken; the message names the setting, its value and the range.
        """
        if not self.model:
            raise SettingsError("model: no bundle to serve; name one with --model NAME=FOLDER")
        check_ranges(self)
        check_kernels(self.kernels, self.device, self.threads)
        self.check_access(self.host)
        self.check_store()

    @property
    def outlives_its_capsules(self) -> bool:
        """Whether sessions survive a restart, or clients may know other servers, and keys do not.

        A server for this machine's own tries, with all in memory, needs no keys.
        """
        lasts = self.state_dir is not None or self.store is not None or not is_loopback(self.host)
        return lasts and not has_keys(self.capsule_keys)

    @property
    def engine(self) -> EngineOptions:
        """How each model is run."""
        return EngineOptions(
            device=self.device,
            threads=self.threads,
            kernels=self.kernels,
            slots=self.slots,
            workers=self.workers,
            queue_limit=self.queue_limit,
            run_seconds=self.run_ms / 1e3,
            chunks_per_second=self.messages_per_second,
            prefix_bytes=self.prefix_cache_mb * 2**20,
        )
