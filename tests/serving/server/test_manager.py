import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import tensorflow as tf
from grpc import StatusCode
from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.server import manager
from serving.server.failure import Failure
from serving.server.manager import Manager
from tests.serving.server import foreign

Status = get_model_status_pb2.ModelVersionStatus
ModelConfig: TypeAlias = model_server_config_pb2.ModelConfig


class Fake:
    """What is loaded: it knows whether it is still open."""

    def __init__(self, name: str, version: int, path: Path):
        self.name, self.version, self.path = name, version, path
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


class World:
    """A folder, a manager that watches it, and what the loading of each version shall do."""

    def __init__(self, folder: Path, **arguments):
        self.folder = folder
        self.loads: list[tuple[str, int]] = []
        self.errors: dict[int, list[Exception]] = {}
        self.gates: dict[int, threading.Event] = {}
        self.servables: list[Fake] = []
        load: Any = self.load
        self.manager = Manager(load, **{"retries": 0, "retry_interval": 0.0, **arguments})

    def load(self, name: str, version: int, path: Path) -> Fake:
        self.loads.append((name, version))
        if gate := self.gates.get(version):
            assert gate.wait(20)
        if errors := self.errors.get(version):
            raise errors.pop(0)
        self.servables.append(Fake(name, version, path))
        return self.servables[-1]

    def add(self, version: int | str, name: str = "m") -> Path:
        path = self.folder / name / str(version)
        path.mkdir(parents=True)
        return path

    def config(self, name: str = "m", **policy) -> ModelConfig:
        config = ModelConfig(name=name, base_path=str(self.folder / name))
        if "labels" in policy:
            config.version_labels.update(policy.pop("labels"))
        config.model_version_policy.MergeFrom(type(config.model_version_policy)(**policy))
        return config

    def configure(self, *configs: ModelConfig) -> None:
        self.manager.configure({config.name: config for config in configs or [self.config()]})

    def states(self, name: str = "m") -> dict[int, str]:
        found = self.manager.status(model_pb2.ModelSpec(name=name))
        return {status.version: Status.State.Name(status.state) for status in found}

    def until(self, condition) -> None:
        with self.manager._changed:
            assert self.manager._changed.wait_for(condition, 20)

    def until_states(self, expected: dict[int, str], name: str = "m") -> None:
        def holds():
            try:
                return self.states(name) == expected
            except Failure:
                return not expected

        self.until(holds)

    def served(self, **version) -> int:
        with self.manager.using(spec(**version)) as servable:
            assert servable in self.servables
            assert servable.is_open  # type: ignore[attr-defined]
            return servable.version


def spec(name: str = "m", number: int | None = None, label: str = "") -> model_pb2.ModelSpec:
    made = model_pb2.ModelSpec(name=name)
    if number is not None:
        made.version.value = number
    if label:
        made.version_label = label
    return made


@pytest.fixture
def make(tmp_path):
    worlds = []

    def made(**arguments):
        worlds.append(World(tmp_path, **arguments))
        return worlds[-1]

    yield made
    for world in worlds:
        for gate in world.gates.values():
            gate.set()
        world.manager.close()


@pytest.fixture
def world(make):
    return make()


# Which versions are served.


def test_the_newest_version_is_served_by_default(world):
    for version in (1, 3, 20):
        world.add(version)
    world.configure()
    world.manager.wait()
    assert world.states() == {20: "AVAILABLE"}
    assert world.served() == 20


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"latest": {"num_versions": 2}}, {3, 2}),
        ({"latest": {}}, {3}),
        ({"all": {}}, {1, 2, 3}),
        ({"specific": {"versions": [1, 3, 9]}}, {1, 3}),
    ],
    ids=["latest 2", "latest", "all", "specific"],
)
def test_the_version_policy_says_which(world, policy, expected):
    for version in (1, 2, 3):
        world.add(version)
    world.configure(world.config(**policy))
    world.until_states(dict.fromkeys(expected, "AVAILABLE"))
    assert world.served() == max(expected)
    assert world.served(number=min(expected)) == min(expected)


def test_only_folders_with_a_number_for_a_name_are_versions(world):
    path = world.add("00000123")
    for name in ("latest", "1.5", "-3", "1e3", "12 ", "٣", str(2**63)):
        world.add(name)
    (world.folder / "m" / "999").write_text("a file")
    world.configure(world.config(all={}))
    world.manager.wait()
    world.until_states({123: "AVAILABLE"})
    assert world.servables[0].path == path


def test_a_missing_base_path_is_waited_for(world):
    world.configure()
    world.manager.look()
    with pytest.raises(Failure, match="Could not find any versions of model m"):
        world.states()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(world.manager.wait)
        world.add(1)
        assert not waiting.done()
        world.manager.look()
        waiting.result(20)
    assert world.served() == 1


# Who answers.


@pytest.mark.parametrize(
    ("wanted", "code", "message"),
    [
        (spec("x"), "NOT_FOUND", "Servable not found for request: Latest(x)"),
        (spec("x", 9), "NOT_FOUND", "Servable not found for request: Specific(x, 9)"),
        (spec("m", 9), "NOT_FOUND", "Servable not found for request: Specific(m, 9)"),
        (spec("m", 0), "NOT_FOUND", "Servable not found for request: Specific(m, 0)"),
        (spec("m", label="l"), "INVALID_ARGUMENT", "Unrecognized servable version label: l"),
        (spec("x", label="l"), "INVALID_ARGUMENT", "Unrecognized servable version label: l"),
        (spec(""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_served_is_refused(world, wanted, code, message):
    world.add(1)
    world.configure()
    world.manager.wait()
    with pytest.raises(Failure) as caught, world.manager.using(wanted):
        pass
    assert caught.value.code == StatusCode[code]
    assert caught.value.message == message


def test_a_version_that_is_still_loading_is_not_found(world):
    world.add(1)
    world.gates[1] = threading.Event()
    world.configure()
    with pytest.raises(Failure, match=r"Latest\(m\)"):
        world.served()
    with pytest.raises(Failure, match=r"Specific\(m, 1\)"):
        world.served(number=1)
    world.gates[1].set()
    world.manager.wait()
    assert world.served() == 1


def test_the_status_of_what_was_never_there_is_not_found(world):
    world.add(1)
    world.configure()
    world.manager.wait()
    for wanted, message in [
        (spec("x"), "Could not find any versions of model x"),
        (spec("m", 9), "Could not find version 9 of model m"),
        (spec("m", 0), "Could not find version 0 of model m"),
        (spec(""), "Could not find any versions of model "),
    ]:
        with pytest.raises(Failure) as caught:
            world.manager.status(wanted)
        assert caught.value.code == StatusCode.NOT_FOUND
        assert caught.value.message == message


def test_the_status_lists_the_newest_first_and_says_ok(world):
    for version in (1, 2):
        world.add(version)
    world.configure(world.config(all={}))
    world.until_states({1: "AVAILABLE", 2: "AVAILABLE"})
    found = world.manager.status(spec())
    assert [status.version for status in found] == [2, 1]
    assert found[0].status.error_code == 0
    (one,) = world.manager.status(spec(number=1))
    assert one.version == 1


# Versions that come and go.


def test_a_new_version_is_loaded_before_the_old_one_goes(world):
    world.add(1)
    world.configure()
    world.manager.wait()
    world.add(2)
    world.gates[2] = threading.Event()
    world.manager.look()
    world.until_states({1: "AVAILABLE", 2: "LOADING"})
    world.manager.look()
    assert world.served() == 1
    world.gates[2].set()
    world.until_states({1: "END", 2: "AVAILABLE"})
    assert world.served() == 2
    assert [servable.is_open for servable in world.servables] == [False, True]
    with pytest.raises(Failure, match=r"Servable not found for request: Specific\(m, 1\)"):
        world.served(number=1)


def test_the_old_version_lives_until_its_last_request_ends(world):
    world.add(1)
    world.configure()
    world.manager.wait()
    with world.manager.using(spec()) as first, world.manager.using(spec()) as second:
        world.add(2)
        world.manager.look()
        world.until_states({1: "UNLOADING", 2: "AVAILABLE"})
        assert first is second
        assert first.is_open
        assert world.served() == 2
    world.until_states({1: "END", 2: "AVAILABLE"})
    assert not first.is_open


def test_a_version_that_fails_to_load_leaves_the_old_one_serving(world):
    world.add(1)
    world.configure()
    world.manager.wait()
    world.add(2)
    world.errors[2] = [tf.errors.NotFoundError(None, None, "no such op")]
    world.manager.look()
    world.until_states({1: "AVAILABLE", 2: "END"})
    world.manager.look()
    assert world.served() == 1
    (status,) = world.manager.status(spec(number=2))
    assert status.status.error_code == StatusCode.NOT_FOUND.value[0]
    assert status.status.error_message == "no such op"
    # It is not tried for ever, but a newer one is.
    assert world.loads == [("m", 1), ("m", 2)]
    world.add(3)
    world.manager.look()
    world.until_states({1: "END", 2: "END", 3: "AVAILABLE"})


def test_loading_is_tried_again(make):
    world = make(retries=2)
    world.add(1)
    world.errors[1] = [ValueError("half written"), OSError("half written")]
    world.configure()
    world.manager.wait()
    assert world.loads == [("m", 1)] * 3
    assert world.served() == 1


def test_a_version_that_is_refused_is_not_tried_again(make):
    world = make(retries=5, retry_interval=3600.0)
    world.add(1)
    world.errors[1] = [Failure(StatusCode.FAILED_PRECONDITION, "it needs a flag")]
    world.configure()
    with pytest.raises(Failure, match="it needs a flag"):
        world.manager.wait()
    assert world.loads == [("m", 1)]


def test_a_model_of_which_nothing_loads_is_reported_to_whoever_waits(make):
    world = make(retries=1)
    world.add(1)
    world.errors[1] = [ValueError("broken"), ValueError("broken")]
    world.configure()
    message = r"1 servable\(s\) did not become available: .*m version 1: UNKNOWN: broken"
    with pytest.raises(Failure, match=message):
        world.manager.wait()
    assert world.loads == [("m", 1)] * 2


def test_a_version_that_vanishes_is_not_tried_again(make):
    world = make(retries=5, retry_interval=1000.0)
    path = world.add(1)
    world.errors[1] = [ValueError("broken")]
    world.configure()
    world.until_states({1: "LOADING"})
    path.rmdir()
    world.manager.look()
    world.until_states({1: "END"})
    assert len(world.loads) <= 1


def test_a_version_that_failed_and_is_no_longer_wanted_is_not_tried_again(make):
    world = make(retries=5, retry_interval=1000.0)
    world.add(1)
    world.add(2)
    world.errors[2] = [ValueError("broken")]
    world.configure()
    world.until(lambda: world.loads == [("m", 2)])
    world.configure(world.config(specific={"versions": [1]}))
    world.until_states({1: "AVAILABLE", 2: "END"})
    assert world.loads == [("m", 2), ("m", 1)]


def test_what_waits_to_be_loaded_is_not_loaded_after_the_end(make):
    world = make()
    for version in range(1, 7):
        world.add(version)
        world.gates[version] = threading.Event()
    world.configure(world.config(all={}))
    world.until(lambda: len(world.loads) == 2)
    closing = threading.Thread(target=world.manager.close)
    closing.start()
    assert world.manager._stopping.wait(20)
    for gate in world.gates.values():
        gate.set()
    closing.join(20)
    assert len(world.loads) == 2


def test_versions_that_wait_for_another_try_do_not_hold_up_others(make):
    world = make(retries=5, retry_interval=1000.0)
    for version in range(1, 5):
        world.add(version)
        world.errors[version] = [ValueError("broken")]
    world.add(1, "good")
    world.configure(world.config(all={}))
    world.until(lambda: len(world.loads) == 4)
    world.errors.clear()
    world.configure(world.config(all={}), world.config("good"))
    world.manager.wait(["good"])


def test_going_back_to_an_older_version(world):
    world.add(1)
    path = world.add(2)
    world.configure()
    world.manager.wait()
    path.rmdir()
    world.manager.look()
    world.until_states({1: "AVAILABLE", 2: "END"})
    assert world.served() == 1
    assert world.loads == [("m", 2), ("m", 1)]


def test_a_version_that_returns_is_loaded_anew(world):
    path = world.add(1)
    world.configure()
    world.manager.wait()
    path.rmdir()
    world.manager.look()
    world.until_states({1: "END"})
    path.mkdir()
    world.manager.look()
    world.until_states({1: "AVAILABLE"})
    assert world.loads == [("m", 1)] * 2


def test_a_base_path_that_vanishes_changes_nothing(world):
    path = world.add(1)
    world.configure()
    world.manager.wait()
    path.parent.rename(world.folder / "elsewhere")
    world.manager.look()
    assert world.states() == {1: "AVAILABLE"}
    assert world.served() == 1


def test_no_request_fails_while_versions_are_swapped(world):
    world.add(1)
    world.configure()
    world.manager.wait()
    ended = threading.Event()

    def client():
        count = 0
        while not ended.is_set():
            assert world.served() >= 1
            count += 1
        return count

    with ThreadPoolExecutor() as pool:
        clients = [pool.submit(client) for _ in range(3)]
        for version in range(2, 12):
            world.add(version)
            world.manager.look()
            world.until(lambda v=version: world.states()[v] == "AVAILABLE")
        ended.set()
        assert all(client.result(20) for client in clients)
    world.until(lambda: list(world.states().values()).count("END") == 10)


def test_a_base_path_that_vanishes_while_it_is_read_changes_nothing(world, monkeypatch):
    path = world.add(1)
    world.configure()
    world.manager.wait()

    def vanishing(base):
        path.parent.rename(world.folder / "elsewhere")
        return {}

    with monkeypatch.context() as patched:
        patched.setattr(manager, "numbered", vanishing)
        world.manager.look()
    assert world.states() == {1: "AVAILABLE"}


# The list of models.


def test_models_that_leave_the_list_are_unloaded(world):
    world.add(1, "a")
    world.add(1, "b")
    world.configure(world.config("a"), world.config("b"))
    world.manager.wait()
    assert world.manager.names() == ["a", "b"]
    world.configure(world.config("b"))
    world.until_states({1: "END"}, "a")
    assert world.manager.names() == ["b"]
    assert not world.manager.has("a")
    with pytest.raises(Failure, match=r"Latest\(a\)"), world.manager.using(spec("a")):
        pass


def test_a_model_that_leaves_while_it_loads_is_let_go(world):
    world.add(1)
    world.gates[1] = threading.Event()
    world.configure()
    world.until(lambda: world.loads)
    world.manager.configure({})
    world.gates[1].set()
    world.until_states({1: "END"})
    assert not world.servables[0].is_open


def test_a_model_that_returns_to_the_list_is_loaded_anew(world):
    world.add(1)
    world.configure()
    world.manager.wait()
    with world.manager.using(spec()) as old:
        world.manager.configure({})
        world.configure()
        world.manager.wait()
        with world.manager.using(spec()) as new:
            assert new is not old
            assert old.is_open
            assert new.is_open


def test_a_changed_policy_loads_and_unloads(world):
    for version in (1, 2):
        world.add(version)
    world.configure()
    world.manager.wait()
    world.configure(world.config(all={}))
    world.until_states({1: "AVAILABLE", 2: "AVAILABLE"})
    world.configure(world.config(specific={"versions": [1]}))
    world.until_states({1: "AVAILABLE", 2: "END"})


# Labels.


def test_labels_name_available_versions(world):
    for version in (1, 2):
        world.add(version)
    world.configure(world.config(all={}))
    world.until_states({1: "AVAILABLE", 2: "AVAILABLE"})
    world.configure(world.config(all={}, labels={"stable": 1, "canary": 2}))
    assert world.served(label="stable") == 1
    assert world.served(label="canary") == 2
    world.configure(world.config(all={}, labels={"stable": 2}))
    assert world.served(label="stable") == 2
    with pytest.raises(Failure, match="Unrecognized servable version label: canary"):
        world.served(label="canary")
    assert len(world.manager.status(spec(label="stable"))) == 2


def test_labels_at_the_first_start_are_refused_and_nothing_changes(world):
    world.add(1)
    with pytest.raises(Failure) as caught:
        world.configure(world.config(labels={"stable": 1}))
    assert caught.value.code == StatusCode.FAILED_PRECONDITION
    assert caught.value.message == (
        "Request to assign label to version 1 of model m, which is not currently available for "
        "inference"
    )
    assert world.manager.names() == []


def test_labels_may_name_what_is_not_loaded_if_that_is_allowed(make):
    world = make(allow_labels_for_unavailable=True)
    for version in (1, 2):
        world.add(version)
    world.configure(world.config(specific={"versions": [1]}, labels={"stable": 1, "next": 2}))
    world.manager.wait()
    assert world.served(label="stable") == 1
    with pytest.raises(Failure, match=r"Servable not found for request: Specific\(m, 2\)"):
        world.served(label="next")
    # A label that is there never moves to what is not loaded.
    with pytest.raises(Failure, match="not currently available for inference"):
        world.configure(world.config(specific={"versions": [1]}, labels={"stable": 2}))
    assert world.served(label="stable") == 1


# The end.


def test_closing_lets_everything_go_and_stops_whoever_waits(make):
    world = make(retries=5, retry_interval=1000.0)
    world.add(1, "a")
    world.add(7, "b")
    world.errors[7] = [ValueError("broken")]
    world.configure(world.config("a"), world.config("b"))
    world.manager.wait(["a"])
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(world.manager.wait)
        world.manager.close()
        waiting.result(20)
    assert not any(servable.is_open for servable in world.servables)
    world.manager.look()


def test_an_unloaded_version_leaves_nothing_behind(half_path):
    made = Manager(lambda name, version, path: foreign.load(path, name, version))
    made.configure({"m": ModelConfig(name="m", base_path=str(half_path.parent))})
    made.wait()
    with made.using(spec()) as servable:
        graph = weakref.ref(servable._session.graph)
    del servable
    made.configure({})
    made.close()
    gc.collect()
    assert graph() is None
