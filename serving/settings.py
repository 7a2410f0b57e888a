"""Everything that can be set about a server, with its ranges."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from serving.errors import SettingsError
from serving.runtime import Device

PORT_LIMIT = 65536


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Serve bundles over gRPC."""

    model: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """A bundle to serve, as NAME=FOLDER, or FOLDER to name it after the folder. Repeat it for
    more; the first is the default model."""

    host: str = "127.0.0.1"
    """Address to listen on. There is no encryption: put a proxy before it where others listen."""

    port: int = 50051
    """Port to listen on; 0 takes a free one."""

    port_file: Path | None = None
    """File to write the port to once the server is ready."""

    metrics_port: int | None = None
    """Port of a page for Prometheus on the same host; 0 takes a free one. None by default."""

    device: Device = Device.CPU
    """Where to compute."""

    threads: int = 1
    """Processor threads of one model's operators."""

    workers: int = 1
    """Workers of one model, each with a core's work and slots of its own; they share the weights.
    Leave a core to the event loop: two cores serve best with one worker."""

    slots: int = 64
    """Sequences of one model that each worker computes side by side."""

    queue_limit: int = 1024
    """Sequences of one model that may wait for a slot; more are refused."""

    call_ms: float = 10.0
    """How long one call of the compiled loop may take, in milliseconds: what a new request waits
    for at most before its prompt is read."""

    messages_per_second: float = 1500.0
    """How many messages the streams of one model send together, at most: the more streams, the
    longer each one's text is gathered, but for its first symbols. A message costs the event loop
    about 0.1 ms, however long it is."""

    prefix_cache_mb: int = 64
    """Memory of one model for the states of prompts that were read, so that they are not read
    again, in MiB; 0 keeps none."""

    capsule_keys: Path | None = None
    """File with the keys that sign capsules, one in hex a line, 32 bytes or more each; the first
    signs, all are accepted. By default the variable UNROLL_CAPSULE_KEYS, else a random key."""

    state_dir: Path | None = None
    """Folder where sessions outlive the server; by default they live in memory alone."""

    sessions_in_memory: int = 100_000
    """Sessions kept in memory; past that, the longest unused are spilled to the state_dir or, where
    there is none, evicted."""

    session_spill_seconds: float = 300.0
    """With a state_dir, sessions unused for so long leave the memory."""

    session_idle_seconds: float = 86400.0
    """Sessions unused for so long expire; 0 keeps them for ever."""

    session_marks: int = 4
    """Positions that a session can be put back to, the current one included."""

    buffer_symbols: int = 4096
    """A stream pauses while so many of its symbols wait for a slow reader."""

    max_prompt_symbols: int = 65536
    """Longest prompt."""

    max_new_symbols: int = 65536
    """Longest text that one request may ask for."""

    max_score_symbols: int = 1_000_000
    """Longest text that one request may have scored."""

    max_message_bytes: int = 8 * 2**20
    """Largest message, in either direction."""

    grace_seconds: float = 30.0
    """On SIGTERM or SIGINT, running requests have so long to finish."""

    keepalive_seconds: float = 60.0
    """A client that says nothing for so long is asked whether it is there."""

    keepalive_timeout_seconds: float = 20.0
    """A client that does not answer that in so long is gone, and its requests end."""

    max_connection_age_seconds: float = 0.0
    """Clients connect anew after so long, which spreads them over servers; 0 leaves them be."""

    max_connection_age_grace_seconds: float = 300.0
    """Streams on such an old connection have so long to finish."""

    def validate(self) -> None:
        """Check every range.

        Raises:
            SettingsError: one is broken; the message names the setting, its value and the range.
        """
        if not self.model:
            raise SettingsError("model: no bundle to serve; name one with --model NAME=FOLDER")
        if not 0 <= self.port < PORT_LIMIT:
            raise self._error("port", f"0 to {PORT_LIMIT - 1}")
        if self.metrics_port is not None and not 0 <= self.metrics_port < PORT_LIMIT:
            raise self._error("metrics_port", f"0 to {PORT_LIMIT - 1}")
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise self._error(name, "1 or more")
        for name in _ABOVE_ZERO:
            if not getattr(self, name) > 0:
                raise self._error(name, "above 0")
        for name in _NEVER_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise self._error(name, "0 or more")

    def _error(self, name: str, allowed: str) -> SettingsError:
        flag = name.replace("_", "-")
        return SettingsError(
            f"{name} = {getattr(self, name)!r}: must be {allowed}; change --{flag}"
        )


_AT_LEAST_ONE = (
    "threads", "workers", "slots", "sessions_in_memory", "session_marks", "buffer_symbols",
    "max_prompt_symbols", "max_new_symbols", "max_score_symbols", "max_message_bytes",
)  # fmt: skip
_ABOVE_ZERO = (
    "call_ms",
    "messages_per_second",
    "session_spill_seconds",
    "keepalive_seconds",
    "keepalive_timeout_seconds",
)
_NEVER_NEGATIVE = (
    "queue_limit", "grace_seconds", "prefix_cache_mb", "session_idle_seconds",
    "max_connection_age_seconds",
    "max_connection_age_grace_seconds",
)  # fmt: skip
