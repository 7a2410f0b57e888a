"""What deploy/kubernetes makes is valid, and fits the server's own settings."""

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import envoy
import kubernetes_validate
import yaml

from serving.settings import ServerSettings

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
UNKNOWN = {"PodMonitor"}  # the Prometheus operator's
Resource = dict[str, Any]


@cache
def built(folder: str) -> tuple[Resource, ...]:
    """Return the resources of a kustomization."""
    kubectl = Path(sys.executable).with_name("kubectl")
    found = kubectl if kubectl.exists() else "kubectl"
    done = subprocess.run(
        [str(found), "kustomize", str(KUBERNETES / folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def one(kind: str, name: str, folder: str = "example") -> Resource:
    (found,) = [
        each for each in built(folder) if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return found


def arguments(folder: str = "example") -> dict[str, str]:
    """Return the options of the server's container."""
    spec = one("Deployment", "unroll", folder)["spec"]["template"]["spec"]
    words = [word.removeprefix("--").partition("=") for word in spec["containers"][0]["args"]]
    return {name.replace("-", "_"): value for name, _, value in words}


def test_resources_are_valid() -> None:
    kinds = [each["kind"] for each in built("base") + built("example")]
    assert {"Deployment", "StatefulSet", "HorizontalPodAutoscaler"} <= set(kinds)
    for resource in built("base") + built("example"):
        if resource["kind"] not in UNKNOWN:
            kubernetes_validate.validate(resource, "1.37", strict=True)


def test_options_are_those_of_the_server() -> None:
    given = arguments()
    assert set(given) <= {*ServerSettings.__dataclass_fields__}
    assert given["store"] == "redis://unroll-redis:6379/0"
    assert "state_dir" not in given, "sessions are stored in one place"
    assert "store" not in arguments("base")


def test_ports_and_names_agree() -> None:
    spec = one("Deployment", "unroll")["spec"]["template"]["spec"]
    ports = {port["name"]: port["containerPort"] for port in spec["containers"][0]["ports"]}
    given = arguments()
    assert ports == {
        "grpc": ServerSettings.port,
        "http": int(given["http_port"]),
        "metrics": int(given["metrics_port"]),
    }
    config = one_of("ConfigMap")["data"]["envoy.yaml"]
    assert "address: unroll-servers, port_value: 50051" in config
    assert one("Service", "unroll-servers")["spec"]["clusterIP"] == "None"
    mounted = {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    for option in ("capsule_keys", "store_password"):
        assert str(Path(given[option]).parent) in mounted


def one_of(kind: str) -> Resource:
    (found,) = [each for each in built("example") if each["kind"] == kind]
    return found


def test_pod_may_drain_before_it_is_killed() -> None:
    spec = one("Deployment", "unroll")["spec"]["template"]["spec"]
    pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = float(arguments()["grace_seconds"])
    assert spec["terminationGracePeriodSeconds"] > pause + grace + 5


def test_liveness_does_not_ask_what_a_drain_changes() -> None:
    container = one("Deployment", "unroll")["spec"]["template"]["spec"]["containers"][0]
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["grpc"] == {"port": ServerSettings.port}


def test_no_container_may_become_root_or_write_to_its_image() -> None:
    for resource in built("example"):
        if resource["kind"] not in {"Deployment", "StatefulSet"}:
            continue
        spec = resource["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_metric_of_the_autoscaler_is_one_of_the_servers() -> None:
    (metric,) = one("HorizontalPodAutoscaler", "unroll")["spec"]["metrics"]
    page = (KUBERNETES.parents[1] / "docs/reference/metrics.md").read_text("utf-8")
    assert re.search(rf"^\| `{metric['pods']['metric']['name']}` \| gauge ", page, re.MULTILINE)


def test_envoy_takes_its_file() -> None:
    program = next(Path(envoy.__path__[0]).rglob("envoy"))
    file = KUBERNETES / "components/envoy/config/envoy.yaml"
    done = subprocess.run(
        [str(program), "--mode", "validate", "-c", str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: unroll}
spec:
  selector: {matchLabels: {app: unroll}}
  template:
    metadata: {labels: {app: unroll}}
    spec:
      containers:
        - {name: unroll, image: unroll, args: [--model=a=/a], resources: {limits: {memory: 1Gi}}}
"""


def test_component_asks_for_a_gpu(tmp_path: Path) -> None:
    shutil.copytree(KUBERNETES / "components" / "gpu", tmp_path / "gpu")
    (tmp_path / "deployment.yaml").write_text(DEPLOYMENT, "utf-8")
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [deployment.yaml]\ncomponents: [gpu]\n", "utf-8"
    )
    (deployment,) = built(str(tmp_path))
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["args"] == ["--model=a=/a", "--device=cuda"]
    assert container["resources"]["limits"] == {"memory": "1Gi", "nvidia.com/gpu": 1}
    assert [each["key"] for each in spec["tolerations"]] == ["nvidia.com/gpu"]
