"""What is written must be what servers, Compose and clusters take, without any of them here."""

import http.server
import itertools
import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import kubernetes_validate
import pytest
import tyro
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.card import XLA_FLAG
from serving.deploy import compose, kserve, kubernetes, texts
from serving.deploy.command import main, warnings
from serving.deploy.folders import Model, find
from serving.deploy.options import IMAGES, Options, Rollout
from serving.server import protos
from serving.verify import XLA_BATCH_SIZES

# Flags of tensorflow_model_server, from its main.cc.
SERVER_FLAGS = {
    "port",
    "rest_api_port",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "file_system_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models",
    "enable_batching",
    "batching_parameters_file",
    "monitoring_config_file",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
    "xla_cpu_compilation_enabled",
}
ROLLOUTS: tuple[Rollout, ...] = ("newest", "canary", "promoted", "previous")
STORAGES = ("gs://bucket/models/", "s3://bucket/models", "pvc://claim/some/models", "pvc://claim")
# The newest that the validator knows, and one that clusters are slow to leave.
KUBERNETES = ("1.37", "1.30")


def make_model(base: Path, *versions: int, tensorflow: str | None = "2.19.0", **facts) -> Path:
    """Folders that look like exports to whoever does not load them."""
    for version in versions:
        extra = base / str(version) / "assets.extra"
        extra.mkdir(parents=True)
        (extra.parent / "saved_model.pb").write_bytes(b"graph")
        if tensorflow:
            card = {"versions": {"tensorflow": tensorflow}, **facts}
            (extra / "model_card.json").write_text(json.dumps(card))
    return base


@pytest.fixture
def digits(tmp_path) -> Path:
    return make_model(tmp_path / "saved_models" / "digits", 2, 9, 10)


@pytest.fixture
def options(digits, tmp_path) -> Options:
    return Options((digits,), "compose", tmp_path / "deploy")


def on_cluster(options: Options, storage: str = STORAGES[0], **changes) -> Options:
    return replace(options, **{"target": "kubernetes", "storage": storage, **changes})


def found(options: Options) -> list[Model]:
    return find(options)


def written(options: Options) -> dict[str, str]:
    return {path.name: path.read_text() for path in options.out.iterdir()}


def models_config(text: str) -> model_server_config_pb2.ModelServerConfig:
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def require_real_flags(flags: list[str]) -> None:
    names = re.findall(r"^--(\w+)=", "\n".join(flags), re.MULTILINE)
    assert len(names) == len(flags)
    assert set(names) <= SERVER_FLAGS
    assert len(names) == len(set(names))


def test_the_command_line_writes_a_folder_and_says_what_is_next(digits, tmp_path, capsys):
    out = tmp_path / "deploy"
    status = tyro.extras.subcommand_cli_from_dict(
        {"deploy": main, "other": print},
        args=["deploy", str(digits), "--target", "compose", "--out", str(out)],
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    assert status == 0
    names = {"models.config", "batching.config", "monitoring.config", "compose.yaml"}
    assert {path.name for path in out.iterdir()} == names
    assert f"docker compose -f {out}/compose.yaml up -d" in capsys.readouterr().out


def test_tensorflow_is_not_imported():
    code = "import sys, serving.deploy.command; print('tensorflow' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.slow
def test_a_real_export_is_deployed_and_its_tensorflow_compared(exported, options, capsys):
    options = replace(options, folders=(exported,))
    assert main(options) == 0
    config = models_config(written(options)["models.config"])
    assert [item.base_path for item in config.model_config_list.config] == ["/models/tiny"]
    exporter = found(options)[0].tensorflow(1)
    assert f"is older than the TensorFlow {exporter}" in capsys.readouterr().err


def test_config_files_are_read_by_the_messages_of_the_server(options):
    assert main(options) == 0
    batching = protos.read_text(options.out / "batching.config", protos.BatchingParameters())
    assert tuple(batching.allowed_batch_sizes) == XLA_BATCH_SIZES
    # Else the server refuses to start.
    assert batching.max_batch_size.value == max(XLA_BATCH_SIZES) == XLA_BATCH_SIZES[-1]
    assert batching.batch_timeout_micros.value == options.batch_timeout_micros
    monitoring = protos.read_text(options.out / "monitoring.config", protos.MonitoringConfig())
    assert monitoring.prometheus_config.enable
    (config,) = models_config(written(options)["models.config"]).model_config_list.config
    assert (config.name, config.base_path) == ("digits", "/models/digits")
    assert config.model_platform == "tensorflow"
    assert not config.HasField("model_version_policy")


@pytest.mark.parametrize(
    ("rollout", "versions", "labels"),
    [
        ("canary", [9, 10], {"stable": 9, "canary": 10}),
        ("promoted", [9, 10], {"stable": 10}),
        ("previous", [9], {"stable": 9}),
    ],
)
def test_a_rollout_names_versions_and_labels(options, rollout, versions, labels):
    assert main(replace(options, rollout=rollout)) == 0
    (config,) = models_config(written(options)["models.config"]).model_config_list.config
    assert list(config.model_version_policy.specific.versions) == versions
    assert dict(config.version_labels) == labels


def test_a_model_of_one_version_keeps_it_beside_the_canary_of_another(options, digits):
    make_model(digits.parent / "letters", 4)
    options = replace(options, folders=(digits.parent,), rollout="canary")
    assert main(options) == 0
    digits_config, letters = models_config(
        written(options)["models.config"]
    ).model_config_list.config
    assert dict(digits_config.version_labels) == {"stable": 9, "canary": 10}
    assert list(letters.model_version_policy.specific.versions) == [4]
    assert dict(letters.version_labels) == {"stable": 4}


def is_accepted(
    before: Model, step: Rollout, after: Model, next_step: Rollout, options: Options
) -> bool:
    """Whether a running server takes the next config.

    It moves a label that exists to a loaded version alone, and does so before it loads others.
    """
    loaded, labels = before.served(replace(options, rollout=step))
    moved = after.served(replace(options, rollout=next_step))[1]
    return all(
        label not in labels or labels[label] == version or version in loaded
        for label, version in moved.items()
    )


@pytest.mark.parametrize("steps", itertools.permutations(ROLLOUTS, 2), ids="-".join)
def test_a_running_server_accepts_every_step_but_one(options, steps):
    (model,) = found(options)
    accepted = is_accepted(model, steps[0], model, steps[1], options)
    # What was taken back comes again as a canary.
    assert accepted == (steps != ("previous", "promoted"))


def test_a_running_server_accepts_the_canary_of_the_next_version(options, tmp_path):
    before, after = (Model("m", tmp_path, versions) for versions in ((1, 2), (1, 2, 3)))
    assert is_accepted(before, "promoted", after, "canary", options)
    # After a rollback to 1 the stable one is 1 still, not the one before the newest.
    assert not is_accepted(before, "previous", after, "canary", options)
    assert is_accepted(before, "previous", after, "canary", replace(options, stable=1))


def test_clients_may_ask_for_the_stable_one_from_the_first_version_on(options, tmp_path):
    first, second = (Model("m", tmp_path, versions) for versions in ((1,), (1, 2)))
    assert first.served(replace(options, rollout="promoted")) == ((1,), {"stable": 1})
    assert is_accepted(first, "promoted", second, "canary", options)


def test_the_older_version_can_be_chosen(options, capsys):
    options = replace(options, rollout="canary", stable=2)
    assert main(options) == 0
    (config,) = models_config(written(options)["models.config"]).model_config_list.config
    assert dict(config.version_labels) == {"stable": 2, "canary": 10}
    assert main(replace(options, stable=10, overwrite=True)) == 1
    assert "must be an older version of the only model" in capsys.readouterr().err


def test_compose_mounts_what_is_there(options, digits):
    assert main(options) == 0
    (server,) = yaml.safe_load(written(options)["compose.yaml"])["services"].values()
    require_real_flags(server["command"])
    mounts = {mount["target"]: options.out / mount["source"] for mount in server["volumes"]}
    assert (mounts["/models/digits"] / "10" / "saved_model.pb").is_file()
    for flag in server["command"]:
        if "/etc/" in flag:
            path = flag.partition("=")[2]
            assert (mounts[str(Path(path).parent)] / Path(path).name).is_file()
    assert all(mount["read_only"] for mount in server["volumes"])
    assert server["image"] == "tensorflow/serving:2.20.0"


def test_compose_paths_have_no_variables_and_are_no_names_of_volumes(options, digits):
    base = make_model(options.out / "$HOME" / "letters", 1)
    content = compose.compose(found(replace(options, folders=(base,))), options)
    sources = [mount["source"] for mount in content["services"]["tensorflow-serving"]["volumes"]]
    assert sources == [".", "./$$HOME/letters"]


def test_compose_on_a_gpu_takes_the_image_for_it(options):
    options = replace(options, accelerator="gpu", image_version="2.18.0")
    server = compose.compose(found(options), options)["services"]["tensorflow-serving"]
    assert server["image"] == "tensorflow/serving:2.18.0-gpu"
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


class Status(http.server.BaseHTTPRequestHandler):
    """Answers like the server's REST port."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        state = {"/v1/models/up": "AVAILABLE", "/v1/models/down": "LOADING"}[self.path]
        self.wfile.write(json.dumps({"model_version_status": [{"state": state}]}).encode())

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(
    ("names", "healthy"), [(["up"], True), (["up", "up"], True), (["up", "down"], False)]
)
def test_health_is_that_of_every_model(names, healthy, tmp_path):
    models = [Model(name, tmp_path, (1,)) for name in names]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Status) as server:
        threading.Thread(target=server.serve_forever).start()
        command = compose.health(models, server.server_port)
        status = subprocess.run(["bash", "-c", command], timeout=20).returncode
        server.shutdown()
    assert (status == 0) == healthy


@pytest.mark.parametrize("target", ["compose", "kubernetes", "kserve"])
def test_a_server_gets_the_flags_that_a_model_card_names(options, tmp_path, target):
    compiled = make_model(tmp_path / "text", 1, server_flags=[XLA_FLAG])
    other = on_cluster(options) if target != "compose" else options
    other = replace(other, target=target)
    assert main(other) == 0
    assert "xla" not in "".join(written(other).values())
    assert main(replace(other, folders=(*other.folders, compiled), overwrite=True)) == 0
    assert sum(text.count(XLA_FLAG) for text in written(other).values()) == 1


@pytest.mark.parametrize("accelerator", IMAGES)
@pytest.mark.parametrize("storage", STORAGES)
def test_kubernetes_takes_the_manifests(options, accelerator, storage):
    options = on_cluster(
        options, storage, accelerator=accelerator, rollout="canary", service_account="reader"
    )
    assert main(options) == 0
    documents = [yaml.safe_load(text) for text in written(options).values()]
    assert {document["kind"] for document in documents} == {
        "ConfigMap",
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
    }
    for document, version in itertools.product(documents, KUBERNETES):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_validator_would_notice(options):
    options = on_cluster(options)
    wrong = kubernetes.manifests(found(options), options)["deployment"]
    wrong["spec"]["template"]["spec"]["container"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[0], strict=True)


@pytest.mark.parametrize("storage", STORAGES)
def test_kubernetes_manifests_fit_each_other(options, storage):
    options = on_cluster(options, storage)
    manifests = kubernetes.manifests(found(options), options)
    template = manifests["deployment"]["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert manifests["deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["service"]["spec"]["selector"] == labels
    assert manifests["disruption-budget"]["spec"]["selector"]["matchLabels"] == labels
    target = manifests["autoscaler"]["spec"]["scaleTargetRef"]["name"]
    assert target == manifests["deployment"]["metadata"]["name"] == "digits"
    pod = template["spec"]
    (server,) = pod["containers"]
    require_real_flags(server["args"])
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["config"]["configMap"]["name"] == manifests["config-map"]["metadata"]["name"]
    for container in (server, *pod.get("initContainers", ())):
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
    ports = {port["name"] for port in server["ports"]}
    assert {port["targetPort"] for port in manifests["service"]["spec"]["ports"]} == ports
    assert server["readinessProbe"]["httpGet"] == {"path": "/v1/models/digits", "port": "rest"}
    assert server["livenessProbe"]["tcpSocket"]["port"] in ports


@pytest.mark.parametrize(
    ("storage", "base_path"),
    zip(STORAGES, ["gs://bucket/models/digits", *["/models/digits"] * 3], strict=True),
)
def test_the_server_looks_where_the_models_are(options, storage, base_path):
    options = on_cluster(options, storage, rollout="canary")
    manifests = kubernetes.manifests(found(options), options)
    text = manifests["config-map"]["data"]["models.config"]
    assert models_config(text).model_config_list.config[0].base_path == base_path
    pod = manifests["deployment"]["spec"]["template"]["spec"]
    models = [volume for volume in pod["volumes"] if volume["name"] == "models"]
    mounts = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "models"]
    if storage.startswith("gs"):
        assert not models and not mounts
        return
    assert mounts[0]["mountPath"] == "/models"
    if storage.startswith("s3"):
        copies = [container["args"][-2:] for container in pod["initContainers"]]
        assert copies == [
            ["s3://bucket/models/digits/9", "/models/digits/9"],
            ["s3://bucket/models/digits/10", "/models/digits/10"],
        ]
    else:
        assert models[0]["persistentVolumeClaim"]["claimName"] == "claim"
        assert mounts[0].get("subPath") == (None if storage == "pvc://claim" else "some/models")


@pytest.mark.parametrize(
    ("accelerator", "devices"),
    [("cpu", {}), ("gpu", {"nvidia.com/gpu": "1"}), ("tpu", {"google.com/tpu": "8"})],
)
def test_a_pod_asks_for_its_accelerator(options, accelerator, devices):
    options = on_cluster(options, accelerator=accelerator, tpu_topology="2x4")
    deployment = kubernetes.manifests(found(options), options)["deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    limits = {key: value for key, value in server["resources"]["limits"].items() if "/" in key}
    assert limits == devices
    assert server["resources"]["requests"]["cpu"] == "4"
    selector = pod.get("nodeSelector", {})
    assert selector.get("cloud.google.com/gke-tpu-topology") == (
        "2x4" if accelerator == "tpu" else None
    )


def test_memory_is_for_three_of_the_largest_version(options, digits):
    with (digits / "10" / "weights").open("wb") as file:
        file.truncate(2**30)
    options = on_cluster(options)
    needed = kubernetes.resources(found(options), options)["limits"]["memory"]
    # 1 GiB for the server, and three times 1 GiB, rounded up.
    assert needed == "4352Mi"


def test_servers_restart_for_what_they_read_once_and_no_more(options, digits):
    def digest(options: Options) -> str:
        deployment = kubernetes.manifests(found(options), options)["deployment"]
        return deployment["spec"]["template"]["metadata"]["annotations"]["hornbook/config"]

    def pod(options: Options) -> dict:
        return kubernetes.manifests(found(options), options)["deployment"]["spec"]["template"]

    options = on_cluster(options)
    with (digits / "10" / "weights").open("wb") as file:
        file.truncate(2**29)
    for rollout in ("canary", "previous", "promoted"):
        assert pod(options) == pod(replace(options, rollout=rollout))
    assert digest(options) != digest(replace(options, batch_timeout_micros=0))
    copied = replace(options, storage="s3://bucket")
    assert digest(copied) != digest(replace(copied, rollout="canary"))


def as_pod(service: dict) -> dict:
    """What KServe makes of the part of a predictor that Kubernetes knows."""
    predictor = dict(service["spec"]["predictor"])
    container = {**predictor.pop("model"), "name": "kserve-container"}
    for key in ("modelFormat", "runtimeVersion", "storageUri"):
        container.pop(key)
    for key in ("annotations", "minReplicas", "maxReplicas", "canaryTrafficPercent"):
        predictor.pop(key, None)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": service["metadata"],
        "spec": {**predictor, "containers": [container]},
    }


@pytest.mark.parametrize(("rollout", "version"), [("newest", 10), ("canary", 10), ("previous", 9)])
def test_each_revision_of_kserve_names_the_config_of_its_version(options, rollout, version):
    options = on_cluster(
        options, target="kserve", rollout=rollout, accelerator="gpu", service_account="reader"
    )
    assert main(options) == 0
    config_map, service = yaml.safe_load_all(written(options)["digits.yaml"])
    kubernetes_validate.validate(config_map, KUBERNETES[0], strict=True)
    kubernetes_validate.validate(as_pod(service), KUBERNETES[0], strict=True)
    (config,) = models_config(config_map["data"]["models.config"]).model_config_list.config
    assert config.base_path == "/mnt/models"
    assert list(config.model_version_policy.specific.versions) == [version]
    predictor = service["spec"]["predictor"]
    assert predictor["volumes"][0]["configMap"]["name"] == config_map["metadata"]["name"]
    # Another batching.config is read by new pods only.
    (model,) = found(options)
    changed = replace(options, batch_timeout_micros=5000)
    _, other = kserve.manifests("digits", model, changed)
    assert other["spec"]["predictor"]["annotations"] != predictor["annotations"]
    assert config_map["metadata"]["name"] == f"digits-{version}"
    assert predictor["model"]["storageUri"] == "gs://bucket/models/digits"
    assert predictor["model"]["runtimeVersion"] == "2.19.1-gpu"
    assert predictor.get("canaryTrafficPercent") == (10 if rollout == "canary" else None)
    require_real_flags(predictor["model"]["args"])


def test_several_models_are_one_deployment_but_several_inference_services(options, digits):
    make_model(digits.parent / "Letters_2", 1)
    (digits.parent / "README.md").write_text("not a model")
    options = on_cluster(replace(options, folders=(digits.parent,)))
    deployment = kubernetes.manifests(found(options), options)["deployment"]
    assert deployment["metadata"]["name"] == "models"
    assert set(kserve.files(found(options), options)) == {"digits.yaml", "letters-2.yaml"}


@pytest.mark.parametrize(
    ("name", "label"),
    [("a_B.c", "a-b-c"), ("2024", "model-2024"), ("x" * 60, "x" * 40), ("_a", "model-a")],
)
def test_names_become_labels_of_the_cluster(name, label):
    assert kubernetes.dns_label(name) == label


@pytest.mark.parametrize(
    ("tensorflow", "said"),
    [
        ("2.20.1", None),
        ("2.21.0", "is older than the TensorFlow 2.21.0"),
        ("2.9.0", None),
        (None, "no model card says"),
    ],
)
def test_a_server_older_than_the_export_is_named(options, tmp_path, tensorflow, said):
    base = make_model(tmp_path / "other", 1, tensorflow=tensorflow)
    notes = warnings(found(replace(options, folders=(base,))), options)
    assert len(notes) == (0 if said is None else 1)
    assert said is None or (said in notes[0] and str(base / "1") in notes[0])


def test_a_tpu_comes_with_a_warning(options):
    options = on_cluster(options, accelerator="tpu", image_version="2.19.0")
    assert any("inference converter" in note for note in warnings(found(options), options))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folders": ()}, "at least one folder"),
        ({"folders": (Path("nowhere"),)}, "nowhere, which is not there"),
        ({"accelerator": "tpu"}, "works with `--target kubernetes`"),
        ({"target": "kubernetes"}, "`--storage` must say where"),
        ({"target": "kserve", "storage": "/mnt/models"}, "pvc://CLAIM/PATH. Received: /mnt/models"),
        ({"storage": "gs://bucket"}, "`--storage` is for clusters"),
        ({"image_version": "latest"}, "must be a specific version"),
        ({"replicas": (3, 2)}, "Received: 3 2"),
        ({"cpus": 0}, "`--cpus` must be at least 1"),
        ({"tpu_topology": "large"}, "like 1x1 or 2x2. Received: large"),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_bad_choices_get_one_line_and_status_1(options, changes, said, capsys):
    assert main(replace(options, **changes)) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not options.out.exists()


def test_bad_folders_are_named_with_the_way_out(options, digits, tmp_path, capsys):
    def error(*folders: Path, **changes) -> str:
        assert main(replace(options, folders=folders, **changes)) == 1
        return capsys.readouterr().err

    assert f"name {digits} and choose" in error(digits / "10")
    (tmp_path / "empty").mkdir()
    assert "holds neither" in error(tmp_path / "empty")
    twin = make_model(tmp_path / "twins" / "digits", 1)
    assert f"{digits}, {twin}" in error(digits, twin)
    assert "export another or use --rollout newest" in error(twin, rollout="canary")
    (twin / "2").mkdir()
    assert "2 without; a server would try version 2 in vain" in error(twin)
    assert "letters, digits" in error(make_model(tmp_path / "my model", 1))
    broken = make_model(tmp_path / "broken", 1)
    (broken / "1" / "assets.extra" / "model_card.json").write_text("{}")
    assert "model_card.json names no version of TensorFlow" in error(broken)
    assert not options.out.exists()


def test_models_that_are_one_name_on_the_cluster_are_refused(options, tmp_path, capsys):
    folders = (make_model(tmp_path / "a_b", 1), make_model(tmp_path / "a-b", 1))
    options = on_cluster(replace(options, folders=folders), target="kserve")
    assert main(options) == 1
    assert "differ in more than case and punctuation" in capsys.readouterr().err


def test_what_is_there_is_replaced_only_when_requested_and_only_if_it_is_ours(options, capsys):
    assert main(options) == 0
    first = written(options)
    assert main(replace(options, rollout="canary")) == 1
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert written(options) == first
    again = on_cluster(options, overwrite=True)
    assert main(again) == 0
    assert "compose.yaml" not in written(again)
    (options.out / "notes.txt").write_text("mine")
    assert main(again) == 1
    assert "also holds notes.txt" in capsys.readouterr().err
    assert (options.out / "notes.txt").read_text() == "mine"


def test_a_file_is_no_folder(options, capsys):
    options.out.write_text("")
    assert main(options) == 1
    assert "which is a file" in capsys.readouterr().err


def test_a_folder_that_a_server_has_mounted_stays_the_same(options):
    assert main(options) == 0
    inode = options.out.stat().st_ino
    assert main(replace(options, rollout="canary", overwrite=True)) == 0
    assert options.out.stat().st_ino == inode
    assert "canary" in written(options)["models.config"]


def test_nothing_is_left_of_a_run_that_fails_half_way(options, monkeypatch, capsys):
    def fail(self, *args, **kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fail)
        assert main(options) == 1
    assert "disk full" in capsys.readouterr().err
    assert sorted(path.name for path in options.out.parent.iterdir()) == ["saved_models"]


def test_yaml_keeps_texts_of_several_lines():
    data = {"text": "one {\n  two: 3\n}\n", "number": "8501", "same": ["a", "a"]}
    assert yaml.safe_load(texts.yaml_text([data])) == data
    assert "text: |\n  one {" in texts.yaml_text([data])
