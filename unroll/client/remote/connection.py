"""What both clients share about their connection to a server."""

from collections.abc import Iterable, Sequence

from grpc_health.v1 import health_pb2

from unroll.client.remote.security import Security
from unroll.errors import InputError, UnavailableError, shown
from unroll.sent import whole_as_sent
from unroll.wire import SERVICE

DEFAULT_TARGET = "127.0.0.1:50051"
PORTS = range(1, 65536)
PORT_DIGITS = 5
POLL_SECONDS = 0.05  # between two questions whether the server is ready

_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.lb_policy_name", "round_robin"),  # over all addresses that a name has
    ("grpc.max_receive_message_length", 8 * 2**20),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a server that is just starting is found soon
    ("grpc.max_reconnect_backoff_ms", 5000),
    ("grpc.keepalive_time_ms", 30_000),  # while a call runs: a dead server ends it
    ("grpc.keepalive_timeout_ms", 20_000),
]
# A proxy of the environment (`http_proxy`) would be told all that is sent in plain text.
CHANNEL_OPTIONS: list[tuple[str, int | str]] = [*_OPTIONS, ("grpc.enable_http_proxy", 0)]

HEALTH_REQUEST = health_pb2.HealthCheckRequest(service=SERVICE)


def read_targets(target: str | Sequence[str], *, has_channel: bool) -> tuple[str, ...]:
    """Return one or more servers' addresses.

    Raises:
        InputError: there is none, or several and one channel of the caller's own.
    """
    targets = (target,) if isinstance(target, str) or not isinstance(target, Iterable) else target
    targets = tuple(targets)
    if not targets:
        raise InputError("target", "is empty; name at least one server, as host:port")
    if not all(isinstance(each, str) for each in targets):
        raise InputError("target", f"must be HOST:PORT, or several, got {target!r}")
    for each in targets if not has_channel else ():
        _check_target(each)
    if has_channel and len(targets) > 1:
        raise InputError(
            "channel", f"can lead to one target only, {len(targets)} are given; leave it out"
        )
    return targets


def _check_target(target: str) -> None:
    if target.startswith(("http://", "https://")):
        raise InputError(
            "target",
            f"is {shown(target)}; give HOST:PORT of the gRPC port, without http:// or https://",
        )
    port = target.rpartition(":")[2]
    if ":" not in target:
        raise InputError("target", f"is {shown(target)}, without a port; give HOST:PORT")
    if port.isdecimal() and (len(port) > PORT_DIGITS or int(port) not in PORTS):
        raise InputError("target", f"is {shown(target)}; its port must be 1 to {PORTS[-1]}")


def check_security(security: Security, targets: Sequence[str], *, has_channel: bool) -> None:
    """Check that a connection can be secured as asked.

    Raises:
        InputError: it cannot, or the channel is the caller's own.
    """
    if not isinstance(security, Security):
        raise InputError("security", f"must be an unroll.Security, got {type(security).__name__}")
    if has_channel and security != Security():
        raise InputError("security", "cannot be combined with channel; secure the channel itself")
    security.validate(targets)


def check_retries(retries: int) -> int:
    """Return how often calls may be made again.

    Raises:
        InputError: it is no such number.
    """
    if whole_as_sent("retries", retries) < 0:
        raise InputError("retries", f"must be 0 (never) or more, got {retries}")
    return retries


def channel_options(*, is_encrypted: bool) -> list[tuple[str, int | str]]:
    """Return a new channel's options; proxies only pass on what is encrypted."""
    return _OPTIONS if is_encrypted else CHANNEL_OPTIONS


def is_serving(response: health_pb2.HealthCheckResponse) -> bool:
    """Whether a health check reports SERVING."""
    serving: bool = response.status == health_pb2.HealthCheckResponse.SERVING
    return serving


def not_ready(target: str, seconds: float) -> UnavailableError:
    """Make the error of a server that did not become ready in time."""
    return UnavailableError(
        f"{target}: no server was ready there within {seconds:g} s; start one with `unroll serve`"
    )
