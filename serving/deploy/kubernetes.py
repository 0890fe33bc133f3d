"""Servers on a Kubernetes cluster that scale with the load."""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from serving.deploy import configs
from serving.deploy.folders import Model
from serving.deploy.options import Options
from serving.deploy.texts import yaml_text

Manifest = dict[str, Any]
ROOT = "/models"
CONFIG_FOLDER = "/etc/tensorflow-serving"
GRPC, REST = 8500, 8501
# Memory of the server without its models; servers for accelerators load large libraries.
SERVER_BYTES = {"cpu": 2**30, "gpu": 4 * 2**30, "tpu": 4 * 2**30}
COPIER = "amazon/aws-cli:2.17.0"
# Load of the requested cores, in percent, that the autoscaler holds.
CPU_LOAD = 70
SECONDS_TO_LOAD = 600
# A server that ends still gets requests until every node knows that it does.
SECONDS_TO_LEAVE = 15


def files(models: Sequence[Model], options: Options) -> dict[str, str]:
    """Returns the manifests as YAML, by file name."""
    return {
        f"{name}.yaml": yaml_text([manifest])
        for name, manifest in manifests(models, options).items()
    }


def manifests(models: Sequence[Model], options: Options) -> dict[str, Manifest]:
    """Returns ConfigMap, Deployment, Service, HorizontalPodAutoscaler and PodDisruptionBudget."""
    name = dns_label(options.name or (models[0].name if len(models) == 1 else "models"))
    # A server reads gs:// itself.
    storage = str(options.storage).rstrip("/")
    root = storage if storage.startswith("gs://") else ROOT
    config = configs.config_files(models, options, [f"{root}/{model.name}" for model in models])
    return {
        "config-map": config_map(f"{name}-config", name, config),
        "deployment": deployment(name, models, options, config),
        "service": service(name),
        "autoscaler": autoscaler(name, options.replicas),
        "disruption-budget": disruption_budget(name),
    }


def dns_label(name: str) -> str:
    """Returns a name as Kubernetes takes it.

    Example:
        >>> dns_label("Image_classification")
        'image-classification'
    """
    label = re.sub(r"[^a-z0-9]+", "-", name.lower())
    if not label[:1].isalpha():
        label = f"model-{label.lstrip('-')}"
    return label[:40].rstrip("-")


def config_map(name: str, instance: str, config: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(name, instance),
        "data": dict(config),
    }


def deployment(
    name: str, models: Sequence[Model], options: Options, config: Mapping[str, str]
) -> Manifest:
    # New pods run in addition to the old ones, unless each needs an accelerator.
    spare, missing = (1, 0) if options.accelerator == "cpu" else (0, 1)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(name, name),
        # Without `replicas`, which the autoscaler sets: applying the file again would reset them.
        "spec": {
            "selector": {"matchLabels": _labels(name)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": spare, "maxUnavailable": missing},
            },
            "template": {
                "metadata": {
                    "labels": _labels(name),
                    "annotations": _annotations(options, config),
                },
                "spec": _pod(name, models, options),
            },
        },
    }


def service(name: str) -> Manifest:
    ports = [{"name": port, "port": number, "targetPort": port} for port, number in _ports()]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name, name),
        "spec": {"type": "ClusterIP", "selector": _labels(name), "ports": ports},
    }


def autoscaler(name: str, replicas: tuple[int, int]) -> Manifest:
    target = {"type": "Utilization", "averageUtilization": CPU_LOAD}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(name, name),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": replicas[0],
            "maxReplicas": replicas[1],
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def disruption_budget(name: str) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(name, name),
        # Not `minAvailable`: with a single replica that would stop every drain of its node.
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _labels(name)}},
    }


def resources(
    models: Sequence[Model], options: Options, copies: int = 3
) -> dict[str, dict[str, str]]:
    """Cores, memory and accelerators of one server.

    Memory is for `copies` of each model, of its largest version's size: two that a canary serves
    and one that is loaded before another goes. Were it for those of the rollout alone, each step
    would restart all servers. Cores have no limit: a limit would stop a server for what is left of
    each 0.1 s.
    """
    needed = SERVER_BYTES[options.accelerator]
    for model in models:
        needed += copies * max(map(model.size, model.versions))
    memory = f"{math.ceil(needed / 2**28) * 256}Mi"
    devices = {
        "cpu": {},
        "gpu": {"nvidia.com/gpu": "1"},
        "tpu": {"google.com/tpu": str(math.prod(map(int, options.tpu_topology.split("x"))))},
    }[options.accelerator]
    return {
        "requests": {"cpu": str(options.cpus), "memory": memory, **devices},
        "limits": {"memory": memory, **devices},
    }


def placement(options: Options) -> dict[str, Any]:
    """Which nodes a server may run on: those with its accelerator."""
    resource = {"gpu": "nvidia.com/gpu", "tpu": "google.com/tpu"}.get(options.accelerator)
    if not resource:
        return {}
    toleration = {"key": resource, "operator": "Exists", "effect": "NoSchedule"}
    if options.accelerator == "gpu":
        return {"tolerations": [toleration]}
    selector = {
        "cloud.google.com/gke-tpu-accelerator": options.tpu_type,
        "cloud.google.com/gke-tpu-topology": options.tpu_topology,
    }
    return {"nodeSelector": selector, "tolerations": [toleration]}


def _pod(name: str, models: Sequence[Model], options: Options) -> dict[str, Any]:
    volumes, mounts = _volumes(name, options)
    pod: dict[str, Any] = {
        "terminationGracePeriodSeconds": 2 * SECONDS_TO_LEAVE,
        "automountServiceAccountToken": False,
        **placement(options),
        "containers": [_server(models, options, mounts)],
        "volumes": volumes,
    }
    if options.service_account:
        pod["serviceAccountName"] = options.service_account
    if str(options.storage).startswith("s3://"):
        pod["initContainers"] = _copiers(models, options)
    if options.accelerator != "tpu":
        pod["securityContext"] = {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    return pod


def _server(
    models: Sequence[Model], options: Options, mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    open_port = {"tcpSocket": {"port": "grpc"}}
    # One model suffices: the ports open only once every configured model has a version.
    status = {"httpGet": {"path": f"/v1/models/{models[0].name}", "port": "rest"}}
    return {
        "name": "tensorflow-serving",
        "image": options.image,
        "command": ["tensorflow_model_server"],
        "args": [
            f"--port={GRPC}",
            f"--rest_api_port={REST}",
            f"--model_config_file_poll_wait_seconds={configs.POLL_SECONDS}",
            *configs.flags(CONFIG_FOLDER, models, options),
            *_polling(options),
        ],
        "ports": [{"name": port, "containerPort": number} for port, number in _ports()],
        "startupProbe": {**open_port, "periodSeconds": 5, "failureThreshold": SECONDS_TO_LOAD // 5},
        "readinessProbe": {**status, "periodSeconds": 5, "timeoutSeconds": 2},
        "livenessProbe": {**open_port, "periodSeconds": 10},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(SECONDS_TO_LEAVE)]}}},
        "resources": resources(models, options),
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _polling(options: Options) -> list[str]:
    """Object storage bills each listing."""
    gs = str(options.storage).startswith("gs://")
    return [f"--file_system_poll_wait_seconds={configs.POLL_SECONDS}"] if gs else []


def _volumes(name: str, options: Options) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The config files and, unless the server reads object storage itself, the models."""
    volumes: list[dict[str, Any]] = [{"name": "config", "configMap": {"name": f"{name}-config"}}]
    mounts: list[dict[str, Any]] = [
        {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True}
    ]
    scheme, _, location = str(options.storage).partition("://")
    if scheme == "gs":
        return volumes, mounts
    mount: dict[str, Any] = {"name": "models", "mountPath": ROOT, "readOnly": True}
    if scheme == "s3":
        volumes.append({"name": "models", "emptyDir": {}})
    else:
        claim, _, folder = location.partition("/")
        volumes.append(
            {"name": "models", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        )
        if folder.strip("/"):
            mount["subPath"] = folder.strip("/")
    return volumes, [*mounts, mount]


def _copiers(models: Sequence[Model], options: Options) -> list[dict[str, Any]]:
    """Copies each served version before the server starts, which cannot read s3:// since 2.7."""
    versions = [
        f"{model.name}/{version}" for model in models for version in model.served(options)[0]
    ]
    storage = str(options.storage).rstrip("/")
    return [
        {
            "name": f"copy-{i}",
            "image": COPIER,
            "args": [
                "s3",
                "cp",
                "--recursive",
                "--only-show-errors",
                f"{storage}/{version}",
                f"{ROOT}/{version}",
            ],
            # Where the tool keeps its own files; the user of the pod has no home.
            "env": [{"name": "HOME", "value": "/tmp"}],
            "volumeMounts": [{"name": "models", "mountPath": ROOT}],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        for i, version in enumerate(versions, start=1)
    ]


def digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _annotations(options: Options, config: Mapping[str, str]) -> dict[str, str]:
    """Where Prometheus reads, and a digest whose change starts new servers.

    It is of the files that a server reads only when it starts; a new models.config is read by
    the servers that run, unless they have to fetch other versions first.
    """
    follows = not str(options.storage).startswith("s3://")
    read_once = [config[name] for name in config if not (follows and name == "models.config")]
    return {
        "hornbook/config": digest(read_once),
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(REST),
        "prometheus.io/path": "/monitoring/prometheus/metrics",
    }


def _metadata(name: str, instance: str) -> dict[str, Any]:
    return {"name": name, "labels": _labels(instance)}


def _labels(instance: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "tensorflow-serving",
        "app.kubernetes.io/instance": instance,
    }


def _ports() -> tuple[tuple[str, int], ...]:
    return ("grpc", GRPC), ("rest", REST)
