"""Real proxies, with the files in deploy/ but for addresses and ports."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import envoy

from tests.ports import free_port
from tests.serving.running import wait_for
from unroll.client.client import Client
from unroll.errors import UnrollError

DEPLOY = Path(__file__).parents[2] / "deploy"


def envoy_command(port: int, servers: Sequence[int], folder: Path) -> list[str]:
    """Return the command of an Envoy on a port, before servers on others of this machine."""
    text = (
        (DEPLOY / "kubernetes/components/envoy/config/envoy.yaml")
        .read_text("utf-8")
        .replace("50050", str(port))
    )
    text = text.replace("type: STRICT_DNS", "type: STATIC").replace("dns_refresh_rate: 5s", "")
    one = text[text.index("              - endpoint:") : text.index("admin:")]
    each = [one.replace("50051", str(server)) for server in servers]
    text = text.replace(one, "".join(each)).replace(": unroll-servers,", ": 127.0.0.1,")
    file = folder / "envoy.yaml"
    file.write_text(text.replace("9901", str(free_port())), "utf-8")
    program = next(Path(envoy.__path__[0]).rglob("envoy"))
    return [str(program), "--log-level", "error", "--use-dynamic-base-id", "-c", str(file)]


@contextmanager
def running_proxy(command: Sequence[str], port: int, folder: Path) -> Iterator[str]:
    """Run a proxy until the block's end; gives its address."""
    address = f"127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: _answers(address) or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text("utf-8")[:2000]
        yield address
    finally:
        process.kill()
        process.wait()


def _answers(address: str) -> bool:
    with Client(address) as client:
        try:
            return bool(client.list_models(timeout=1.0))
        except UnrollError:
            return False
