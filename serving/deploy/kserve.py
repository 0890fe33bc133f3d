"""One KServe InferenceService per model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from serving.deploy import configs
from serving.deploy.folders import Model
from serving.deploy.kubernetes import (
    CONFIG_FOLDER,
    Manifest,
    config_map,
    digest,
    dns_label,
    resources,
)
from serving.deploy.options import Options
from serving.deploy.texts import yaml_text

# Where KServe copies what `storageUri` names.
BASE_PATH = "/mnt/models"
# Requests that a canary gets, in percent.
CANARY_TRAFFIC = 10


def files(models: Sequence[Model], options: Options) -> dict[str, str]:
    """Returns the manifests as YAML, by file name.

    Raises:
        ValueError: Two models have one name on the cluster.
    """
    named = {_name(model, models, options): model for model in models}
    if len(named) < len(models):
        raise ValueError(
            "`folders` must hold models whose names differ in more than case and punctuation. "
            f"Received: {', '.join(model.name for model in models)}"
        )
    return {
        f"{name}.yaml": yaml_text(manifests(name, model, options)) for name, model in named.items()
    }


def manifests(name: str, model: Model, options: Options) -> list[Manifest]:
    """Returns a ConfigMap, whose name contains the version, and the InferenceService.

    Each revision of the service names the ConfigMap of its own version. So a revision that KServe
    keeps, as for a canary, continues to serve the same version.
    """
    version = model.served(options)[0][-1]
    pinned = Model(model.name, model.base, (version,))
    # Also for `newest`: KServe copies the versions when a pod starts, so there is none to follow.
    named = replace(options, rollout="promoted") if options.rollout == "newest" else options
    config = config_map(
        f"{name}-{version}", name, configs.config_files([pinned], named, [BASE_PATH])
    )
    return [config, inference_service(name, config, pinned, options)]


def inference_service(name: str, config: Manifest, model: Model, options: Options) -> Manifest:
    predictor: dict[str, Any] = {
        # A new revision for files that a server reads only when it starts.
        "annotations": {"hornbook/config": digest(config["data"].values())},
        "minReplicas": options.replicas[0],
        "maxReplicas": options.replicas[1],
        "model": {
            "modelFormat": {"name": "tensorflow"},
            "runtimeVersion": options.tag,
            "storageUri": f"{str(options.storage).rstrip('/')}/{model.name}",
            # KServe's own come first: ports, model_name, model_base_path. The two last are ignored
            # when there is a model_config_file.
            "args": configs.flags(CONFIG_FOLDER, [model], options),
            # A new version is served by pods of its own.
            "resources": resources([model], options, copies=2),
            "volumeMounts": [{"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True}],
        },
        "volumes": [{"name": "config", "configMap": {"name": config["metadata"]["name"]}}],
    }
    if options.rollout == "canary":
        predictor["canaryTrafficPercent"] = CANARY_TRAFFIC
    if options.service_account:
        predictor["serviceAccountName"] = options.service_account
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": predictor},
    }


def _name(model: Model, models: Sequence[Model], options: Options) -> str:
    return dns_label(options.name if options.name and len(models) == 1 else model.name)
