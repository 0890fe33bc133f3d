"""One server on one machine by Docker Compose."""

import os
from collections.abc import Sequence
from typing import Any

from serving.deploy import configs
from serving.deploy.folders import Model
from serving.deploy.options import Options
from serving.deploy.texts import yaml_text

ROOT = "/models"
CONFIG_FOLDER = "/etc/tensorflow-serving"
GRPC, REST = 8500, 8501


def files(models: Sequence[Model], options: Options) -> dict[str, str]:
    """Returns the config files and compose.yaml, by name."""
    config = configs.config_files(models, options, [f"{ROOT}/{model.name}" for model in models])
    return {**config, "compose.yaml": yaml_text([compose(models, options)])}


def compose(models: Sequence[Model], options: Options) -> dict[str, Any]:
    """Returns the content of compose.yaml, with paths relative to its folder."""
    out = os.path.abspath(options.out)
    # The folder, not its files: a file that is replaced would stay the old one in the container.
    mounts = [_mount(".", CONFIG_FOLDER)]
    for model in models:
        mounts.append(_mount(os.path.relpath(model.base, out), f"{ROOT}/{model.name}"))
    server: dict[str, Any] = {
        "image": options.image,
        # The image's own entry point is a shell script that adds flags for a single model.
        "entrypoint": ["tensorflow_model_server"],
        "command": [
            f"--port={GRPC}",
            f"--rest_api_port={REST}",
            f"--model_config_file_poll_wait_seconds={configs.POLL_SECONDS}",
            *configs.flags(CONFIG_FOLDER, models, options),
        ],
        # Only on this machine: the server has no passwords.
        "ports": [f"127.0.0.1:{port}:{port}" for port in (GRPC, REST)],
        "volumes": mounts,
        # The server does not handle SIGTERM, and the first process of a container ignores it then.
        "init": True,
        "restart": "unless-stopped",
        "healthcheck": {
            "test": ["CMD", "bash", "-c", health(models, REST)],
            "interval": "10s",
            "timeout": "5s",
            "start_period": "60s",
        },
    }
    if options.accelerator == "gpu":
        device = {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
        server["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    return {"services": {"tensorflow-serving": server}}


def health(models: Sequence[Model], port: int) -> str:
    """Returns a command for bash that succeeds if every model has a version that answers.

    The image has no curl.
    """
    return " && ".join(
        f"exec 3<>/dev/tcp/127.0.0.1/{port}"
        f" && printf 'GET /v1/models/{model.name} HTTP/1.0\\r\\n\\r\\n' >&3"
        " && grep -q '\"AVAILABLE\"' <&3"
        for model in models
    )


def _mount(source: str, target: str) -> dict[str, Any]:
    """A folder of this machine, its path relative to compose.yaml."""
    return {
        "type": "bind",
        # Without a dot in front it would be the name of a volume, and `$` starts a variable.
        "source": (source if source.startswith(".") else f"./{source}").replace("$", "$$"),
        "target": target,
        "read_only": True,
        "bind": {"create_host_path": False},
    }
