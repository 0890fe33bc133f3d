"""The options of `hornbook deploy`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

Target = Literal["compose", "kubernetes", "kserve"]
Accelerator = Literal["cpu", "gpu", "tpu"]
Rollout = Literal["newest", "canary", "promoted", "previous"]


@dataclass(frozen=True)
class Image:
    """A published image of TensorFlow Serving.

    Args:
        repository: Where it is pulled from.
        version: Newest version that is known to be there.
        suffix: What the tag has after the version.
    """

    repository: str
    version: str
    suffix: str = ""


# Newest tags found in use in public manifests. Of 2.20.0 none for the GPU was found; the image for
# the TPU is Google's, and has stayed at 2.13.0.
IMAGES: dict[str, Image] = {
    "cpu": Image("tensorflow/serving", "2.20.0"),
    "gpu": Image("tensorflow/serving", "2.19.1", "-gpu"),
    "tpu": Image("us-docker.pkg.dev/cloud-tpu-images/inference/tf-serving-tpu", "2.13.0"),
}


@dataclass(frozen=True)
class Options:
    """The options of `hornbook deploy`."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Models: folders of versions, or folders of such folders."""
    target: Target
    """Platform that runs the server."""
    out: Path
    """Folder to write to."""
    accelerator: Accelerator = "cpu"
    """Processor that the server computes on."""
    rollout: Rollout = "newest"
    """Versions to serve. `newest`: the highest number, as soon as it appears. `canary`: the newest
    two, the older one labelled stable and the newest one canary. `promoted`, after a canary or for
    a first version: the same, the newest one labelled stable. `previous`: only the older one,
    labelled stable."""
    stable: int | None = None
    """The older version of a rollout. Default: the second newest."""
    storage: str | None = None
    """Location of the models for a cluster, each at STORAGE/NAME/VERSION: gs://BUCKET/PATH,
    s3://BUCKET/PATH or, for a PersistentVolumeClaim, pvc://CLAIM/PATH."""
    service_account: str | None = None
    """Service account of the cluster that may read the storage."""
    name: str | None = None
    """Name on the cluster. Default: that of the model, or `models` for several."""
    image_version: str | None = None
    """Version of TensorFlow Serving. Default: 2.20.0, on GPU 2.19.1, on TPU 2.13.0."""
    cpus: int = 4
    """Cores of one server: its threads and, on a cluster, what it requests."""
    replicas: tuple[int, int] = (2, 10)
    """Minimum and maximum number of servers on a cluster."""
    batch_timeout_micros: int = 1000
    """Maximum wait for other requests to fill a batch, in microseconds."""
    tpu_type: str = "tpu-v5-lite-podslice"
    """Value of the node label cloud.google.com/gke-tpu-accelerator."""
    tpu_topology: str = "1x1"
    """Chips of one node: value of the node label cloud.google.com/gke-tpu-topology."""
    overwrite: bool = False
    """Replace the files of an earlier run in `out`."""

    @property
    def image(self) -> str:
        image = IMAGES[self.accelerator]
        return f"{image.repository}:{self.tag}"

    @property
    def tag(self) -> str:
        return f"{self.server_version}{IMAGES[self.accelerator].suffix}"

    @property
    def server_version(self) -> str:
        return self.image_version or IMAGES[self.accelerator].version


def require_possible(options: Options) -> None:
    """Raises a ValueError for choices that do not go together or have no meaning."""
    _require_place(options)
    if not re.fullmatch(r"\d+\.\d+\.\d+(-rc\d+)?", options.server_version):
        raise ValueError(
            "`--image-version` must be a specific version, such as 2.19.1, for a server that stays "
            f"the same. Received: {options.image_version}"
        )
    fewest, most = options.replicas
    if not 1 <= fewest <= most:
        raise ValueError(
            f"`--replicas` must be a minimum, at least 1, and a maximum. Received: {fewest} {most}"
        )
    if options.cpus < 1 or options.batch_timeout_micros < 0:
        raise ValueError(
            "`--cpus` must be at least 1 and `--batch-timeout-micros` at least 0. "
            f"Received: {options.cpus} and {options.batch_timeout_micros}"
        )
    if not re.fullmatch(r"\d+(x\d+)*", options.tpu_topology):
        raise ValueError(
            f"`--tpu-topology` must be like 1x1 or 2x2. Received: {options.tpu_topology}"
        )


def _require_place(options: Options) -> None:
    """A TPU needs Google's image and nodes, a cluster needs to know where the models are."""
    if options.accelerator == "tpu" and options.target != "kubernetes":
        raise ValueError(
            "`--accelerator tpu` works with `--target kubernetes`, on Google Kubernetes Engine: "
            "TensorFlow publishes no image for TPUs, and the one that Google publishes wants nodes "
            f"with TPUs. Received: --target {options.target}"
        )
    if options.target == "compose":
        if options.storage:
            raise ValueError(
                "`--storage` is for clusters; compose serves the folders themselves. "
                f"Received: {options.storage}"
            )
    elif not re.fullmatch(r"(gs|s3|pvc)://[^/]+(/.*)?", options.storage or ""):
        raise ValueError(
            "`--storage` must say where the cluster finds the models: gs://BUCKET/PATH, "
            f"s3://BUCKET/PATH or pvc://CLAIM/PATH. Received: {options.storage}"
        )
