"""Everything that can be set about a server, with its ranges."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from serving.access.tls import TlsFiles
from serving.runtime.onnx import Device
from serving.telemetry.logs import LogFormat, LogLevel
from unroll.errors import SettingsError
from unroll.ranges import Range, check_ranges
from unroll.terms import STOPS_AT_MOST, is_loopback

COUNT = 2**31 - 1
DAY = 86_400  # seconds; gRPC counts milliseconds in 32 bits, which end after 24.8 days
YEAR = 365 * DAY


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Serve bundles over gRPC."""

    model: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """A bundle to serve, as NAME=FOLDER, or FOLDER to name it after the folder. Repeat it for
    more; the first is the default model."""

    host: str = "127.0.0.1"
    """Address to listen on. One that other machines can reach needs a certificate."""

    port: Annotated[int, Range(0, 65535)] = 50051
    """Port to listen on; 0 takes a free one."""

    keep_retired: Annotated[int, Range(0, 1024)] = 1
    """SIGHUP looks at the folders of all models again. Where one holds another bundle, new texts
    begin on that, and so many earlier ones of each name stay for what began on them."""

    port_file: Path | None = None
    """File to write the port to once the server is ready."""

    metrics_port: Annotated[int | None, Range(0, 65535)] = None
    """Port of a page for Prometheus on the same host; 0 takes a free one. None by default."""

    log_format: LogFormat = LogFormat.HUMAN
    """Lines for people, or one JSON object a line."""

    log_level: LogLevel = LogLevel.INFO
    """What is logged on standard error: that and worse. `info` has one line a finished request."""

    otel_endpoint: str | None = None
    """Where OpenTelemetry traces go by OTLP over gRPC, as http://HOST:4317; needs the extra `otel`.
    None by default."""
    tls_certificate: Path | None = None
    """The server's certificate and those between it and its authority's, in PEM; with it, all is
    encrypted. Files of certificates, keys and tokens are read again when they change."""

    tls_key: Path | None = None
    """The certificate's private key, in PEM, without a password."""

    tls_client_ca: Path | None = None
    """Authorities, in PEM, whose certificates clients must show; by default they show none."""

    tokens: Path | None = None
    """File of the tokens that callers need, one NAME:SHA256 a line; `unroll token` makes them.
    By default callers need none. Health checks never do."""

    plaintext_anywhere: Annotated[bool, Parameter(negative=())] = False
    """Listen without encryption where other machines can reach it."""

    device: Device = Device.CPU
    """Where to compute."""

    threads: Annotated[int, Range(1, 1024)] = 1
    """Processor threads of one model's operators."""

    workers: Annotated[int, Range(1, 1024)] = 1
    """Workers of one model, each with a core's work and slots of its own; they share the weights.
    Leave a core to the event loop: two cores serve best with one worker."""

    slots: Annotated[int, Range(1, 65536)] = 64
    """Sequences of one model that each worker computes side by side."""

    queue_limit: Annotated[int, Range(0, COUNT)] = 1024
    """Sequences of one model that may wait for a slot; more are refused."""

    run_ms: Annotated[float, Range(0.1, 10_000)] = 10.0
    """How long one run of the compiled loop may take, in milliseconds: what a new request waits
    for at most before its prompt is read."""

    messages_per_second: Annotated[float, Range(above=0, most=10**9)] = 1500.0
    """How many messages the streams of one model send together, at most: the more streams, the
    longer each one's text is gathered, but for its first symbols. A message costs the event loop
    about 0.1 ms, however long it is."""

    prefix_cache_mb: Annotated[int, Range(0, 2**20)] = 64
    """Memory of one model for the states of prompts that were read, so that they are not read
    again, in MiB; 0 keeps none."""

    capsule_keys: Path | None = None
    """File with the keys that sign capsules, one in hex a line, 32 bytes or more each; the first
    signs, all are accepted. By default the variable UNROLL_CAPSULE_KEYS, else a random key."""

    state_dir: Path | None = None
    """Folder where sessions outlive the server; by default they live in memory alone."""

    sessions_in_memory: Annotated[int, Range(1, COUNT)] = 100_000
    """Sessions kept in memory; past that, the longest unused are spilled to the state_dir or, where
    there is none, evicted."""

    session_spill_seconds: Annotated[float, Range(above=0, most=YEAR)] = 300.0
    """With a state_dir, sessions unused for so long leave the memory."""

    session_idle_seconds: Annotated[float, Range(0, 10 * YEAR)] = 86400.0
    """Sessions unused for so long expire; 0 keeps them for ever."""

    session_marks: Annotated[int, Range(1, 1024)] = 4
    """Positions that a session can be put back to, the current one included."""

    buffer_symbols: Annotated[int, Range(1, COUNT)] = 4096
    """A stream pauses while so many of its symbols wait for a slow reader."""

    max_prompt_symbols: Annotated[int, Range(1, COUNT)] = 65536
    """Longest prompt."""

    max_new_symbols: Annotated[int, Range(1, COUNT)] = 65536
    """Longest text that one request may ask for."""

    max_score_symbols: Annotated[int, Range(1, COUNT)] = 1_000_000
    """Longest text that one request may have scored."""

    max_stop_strings: Annotated[int, Range(0, STOPS_AT_MOST)] = 8
    """Stop strings of one request."""

    max_calls_per_caller: Annotated[int, Range(1, COUNT)] = 512
    """Calls and streams that one caller may have at once. A caller is known by its token, else by
    its certificate, else by its address."""

    rate_per_caller: Annotated[float, Range(0, 10**9)] = 1000.0
    """Calls a second that one caller may make in the long run; 0 sets no limit."""

    burst_per_caller: Annotated[int, Range(1, COUNT)] = 1000
    """Calls that one caller may make at once after a rest."""

    rate_without_token: Annotated[float, Range(0, 10**9)] = 10.0
    """Calls a second without a valid token that one address may make in the long run, where tokens
    are needed; more are refused as too many. Valid tokens are let in all the same. 0 sets no
    limit."""

    burst_without_token: Annotated[int, Range(1, COUNT)] = 100
    """Calls without a valid token that one address may make at once after a rest."""

    max_sessions_per_caller: Annotated[int, Range(0, COUNT)] = 10_000
    """Sessions that one caller with a token or a certificate may have; 0 sets no limit."""

    max_message_bytes: Annotated[int, Range(1024, 2**30)] = 8 * 2**20
    """Largest message, in either direction."""

    grace_seconds: Annotated[float, Range(0, DAY)] = 30.0
    """On SIGTERM or SIGINT, running requests have so long to finish."""

    exit_on_engine_failure: Annotated[bool, Parameter(negative=())] = False
    """End the process with status 70 when a model's engine fails, so that a supervisor starts it
    again. Without it, the process stays and its health is NOT_SERVING."""

    keepalive_seconds: Annotated[float, Range(0.1, DAY)] = 60.0
    """A client that says nothing for so long is asked whether it is there."""

    keepalive_timeout_seconds: Annotated[float, Range(0.1, DAY)] = 20.0
    """A client that does not answer that in so long is gone, and its requests end."""

    max_connection_age_seconds: Annotated[float, Range(0, 20 * DAY)] = 3600.0
    """Clients connect anew after so long, a tenth more or less, which spreads them over servers and
    ends connections whose certificates are trusted no more; 0 leaves them be."""

    max_connection_age_grace_seconds: Annotated[float, Range(0, 20 * DAY)] = 300.0
    """Calls on such an old connection have so long to finish; then they end with UNAVAILABLE, and
    streams with `resume` go on by a new one."""

    def validate(self) -> None:
        """Check every range and every rule between settings.

        Raises:
            SettingsError: one is broken; the message names the setting, its value and the range.
        """
        if not self.model:
            raise SettingsError("model: no bundle to serve; name one with --model NAME=FOLDER")
        check_ranges(self)
        self._validate_security()

    @property
    def tls(self) -> TlsFiles | None:
        """What encrypts; None for plain text."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        return TlsFiles(
            certificate=self.tls_certificate, key=self.tls_key, client_ca=self.tls_client_ca
        )

    def _validate_security(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise SettingsError(
                "tls_certificate and tls_key: one is given without the other; give both, with "
                "--tls-certificate and --tls-key"
            )
        if self.tls_client_ca is not None and self.tls is None:
            raise SettingsError(
                "tls_client_ca: clients' certificates need encryption; give --tls-certificate and "
                "--tls-key, too"
            )
        if self.tls is not None or is_loopback(self.host):
            return
        if self.tokens is not None:
            raise SettingsError(
                f"tokens: would be sent in plain text to host = {self.host!r}; give "
                "--tls-certificate and --tls-key, or listen on 127.0.0.1"
            )
        if not self.plaintext_anywhere:
            raise SettingsError(
                f"host = {self.host!r}: other machines can reach it, and nothing is encrypted; "
                "give --tls-certificate and --tls-key, listen on 127.0.0.1, or ask for it with "
                "--plaintext-anywhere"
            )
