import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from runs.settings import AUTO, Auto, Data, Settings


@dataclass(frozen=True)
class Config(Settings):
    data: str = "digits"
    model: str = "small"
    epochs: Auto[int] = AUTO
    out: Path = Path("out")
    size: tuple[int, int] | None = None
    levels: tuple[int, ...] = (2, 3)
    share: float = 0.5
    kind: Literal["round", "square"] | None = None
    depth: int = 4

    @property
    def usual(self):
        return super().usual | {"epochs": 9 if self.model == "large" else 3}

    def __post_init__(self):
        super().__post_init__()
        self.require_one_of(("small", "large"), "model")
        self.require_least(1, "size")
        self.require_share("share")
        self.require_only(("large",), "depth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "huge"}, "`model` must be one of small, large. Received: model='huge'"),
        ({"size": (3, 0)}, r"`size` must be at least 1. Received: size=\(3, 0\)"),
        ({"share": 1.0}, r"`share` must be in \[0, 1\). Received: share=1.0"),
        ({"share": float("nan")}, "`share` must be in"),
        ({"kind": "oval"}, "`kind` must be one of round, square, None. Received: kind='oval'"),
        ({"optimizer": "adamax"}, "`optimizer` must be one of sgd, momentum"),
        ({"weight_decay": float("inf")}, "`weight_decay` must be at least 0"),
        ({"seed": 2**31}, r"`seed` must be below 2\*\*31"),
        ({"warmup_epochs": 3.0}, "`warmup_epochs` must be below the number of epochs, 3"),
        ({"clip_norm": float("inf")}, "`clip_norm` must be above 0"),
        ({"average": 0.0}, "`average` must be above 0 and below 1"),
        ({"keep": "last", "monitor": "val_loss"}, "`monitor` has no use with keep='last'"),
        (
            {"accumulate": 2, "jit_compile": True, "strategy": "mirrored"},
            "`accumulate` must be 1 with jit_compile and a strategy",
        ),
        ({"depth": 5}, "`depth` is for the models large. Received: model='small', depth=5"),
    ],
)
def test_a_bad_setting_is_refused_by_its_name(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_settings_at_their_edges_are_taken():
    Config(size=(1, 1), share=0.0, kind="round", seed=2**31 - 1, warmup_epochs=2.9, patience=0)
    Config(model="large", depth=5, learning_rate=0.0, weight_decay=0.0, average=0.999)


def test_settings_are_saved_as_json_values():
    saved = Config(size=(2, 3)).saved
    assert saved["size"] == [2, 3] and saved["out"] == "out" and saved["average"] is None


def written(folder: Path, **changes) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(Config(size=(2, 3)).saved | changes))
    return path


def test_saved_settings_are_loaded_as_they_were(tmp_path):
    config = Config(size=(2, 3), share=0.25, average=0.5, out=tmp_path / "run", seed=7)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.saved))
    assert Config.load(path) == Config.load(tmp_path) == config
    assert Config.load(path, seed=8, size=(1, 1)).saved == config.saved | {
        "seed": 8,
        "size": [1, 1],
    }


def test_what_the_network_chose_is_chosen_again_and_what_the_user_chose_is_kept(tmp_path):
    assert Config.load(written(tmp_path), model="large").epochs == 9
    assert Config.load(written(tmp_path, epochs=4), model="large").epochs == 4
    assert Config.load(written(tmp_path, epochs=4)).epochs == 4
    assert Config.load(written(tmp_path), epochs=5).epochs == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": 3, "colour": "red"}, "settings of this app. Received: widths, colour. Fix"),
        ({"share": "half"}, "`share` must be of type float. Received: share='half'"),
        ({"share": True}, "`share` must be of type float"),
        ({"seed": 1.0}, "`seed` must be of type int. Received: seed=1.0"),
        ({"size": [3]}, r"`size` must be of type tuple\[int, int\] \| None"),
        ({"size": [3, 2.5]}, r"`size` must be of type tuple\[int, int\] \| None"),
        ({"kind": 3}, "`kind` must be of type .*Literal.* Received: kind=3"),
        ({"kind": "oval"}, "`kind` must be one of round, square, None"),
        ({"out": None}, "`out` must be of type Path. Received: out=None"),
        ({"epochs": -1}, "`epochs` must be at least 0"),
    ],
)
def test_a_file_with_bad_settings_is_refused_by_their_names(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Config.load(written(tmp_path, **changes))


def test_a_tuple_may_have_any_length(tmp_path):
    assert Config.load(written(tmp_path, levels=[4])).levels == (4,)
    assert Config.load(written(tmp_path, levels=[])).levels == ()
    with pytest.raises(ValueError, match=r"`levels` must be of type tuple\[int, ...\]"):
        Config.load(written(tmp_path, levels=[4, "5"]))


def test_a_whole_number_is_a_number(tmp_path):
    share = Config.load(written(tmp_path, share=0)).share
    assert share == 0.0 and isinstance(share, float)


def test_settings_that_a_file_of_an_older_version_lacks_have_their_defaults(tmp_path):
    path = tmp_path / "config.json"
    saved = Config(share=0.25).saved
    del saved["share"], saved["kind"]
    path.write_text(json.dumps(saved))
    assert Config.load(path) == Config()


@pytest.mark.parametrize(("text", "message"), [("{", "expected JSON"), ("[]", "an object")])
def test_a_file_that_holds_no_settings_is_refused(text, message, tmp_path):
    path = tmp_path / "settings"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Config.load(path)
    with pytest.raises(FileNotFoundError, match=r"expected the config\.json of a run"):
        Config.load(tmp_path)


@dataclass(frozen=True)
class Networked(Config):
    NETWORK = (*Config.NETWORK, "size", "depth")
    share: Data[float] = 0.5


@pytest.fixture
def run(tmp_path) -> Path:
    """A folder as a finished run leaves it, as far as settings go."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = Networked(model="large", size=(2, 3), depth=6, share=0.25, out=folder, epochs=5)
    (folder / "config.json").write_text(json.dumps(config.saved))
    (folder / "model.keras").touch()
    return folder


def test_a_run_that_continues_another_has_its_network_and_defaults_of_its_own(run):
    config = Networked.continuing(run, data="new", seed=3)
    assert config.continued == run and config.part("tokenizer") == str(run / "tokenizer")
    assert (config.model, config.size, config.depth) == ("large", (2, 3), 6)
    assert (config.share, config.epochs, config.data) == (0.5, 9, "new")
    assert (config.warmup_epochs, config.rate()) == (0.5, Config().rate() / 10)
    assert Networked.continuing(run, learning_rate=0.5).rate() == 0.5
    assert Config().continued is None and Config(preset="a").part("tokenizer") == "a"


def test_another_network_than_that_of_the_run_is_refused(run):
    with pytest.raises(
        ValueError, match=r"`size` must be \(2, 3\), as in the run .*run. Received:"
    ):
        Networked.continuing(run, size=(2, 4))
    with pytest.raises(ValueError, match="`model` must be 'large', as in the run"):
        Networked(preset=str(run))


def test_a_run_that_wrote_a_preset_for_other_apps_is_refused_with_its_path(run):
    (run / "config.json").write_text(json.dumps(Config().saved | {"hidden": 3}))
    with pytest.raises(ValueError, match=r"Received: hidden. Fix: use the app"):
        Networked.continuing(run)
    (run / "preset").mkdir()
    with pytest.raises(ValueError, match=r"Received: hidden\. Fix: pass --preset .*run/preset\."):
        Networked.continuing(run)


def test_settings_of_the_data_go_to_the_loader_and_may_differ_in_an_evaluation():
    config = Networked(data="mine", share=0.25)
    of_data = {"data": "mine", "share": 0.25, "skip_bad": False}
    assert config.loading == {**of_data, "evaluated": None}
    free = ["data", "out", "preset", "skip_bad", "batch_size", "accumulate", "share"]
    assert sorted(Networked.evaluation()) == sorted(free)


def test_an_evaluation_has_all_settings_of_the_run_but_those_about_the_data(run):
    config = Networked.evaluating(run, data="new", share=0.75)
    assert config.EVALUATES and not Networked.EVALUATES
    assert (config.data, config.share, config.epochs) == ("new", 0.75, 5)
    assert config.out == run / "evaluations" / "evaluation_1"
    config.out.mkdir(parents=True)
    assert Networked.evaluating(run).out == run / "evaluations" / "evaluation_2"
    with pytest.raises(ValueError, match="`epochs` must be 5, as in the run"):
        Networked.evaluating(run, epochs=6)


def test_an_evaluation_on_other_data_leaves_out_what_was_about_that_of_the_run(run):
    @dataclass(frozen=True)
    class Grouped(Networked):
        group: Annotated[str | None, "data"] = None
        column: Annotated[str | None, "data"] = None

    then = Grouped(data="a", out=run, model="large", size=(2, 3), column="b", skip_bad=True)
    (run / "config.json").write_text(json.dumps(then.saved))
    same, other, again = (
        Grouped.evaluating(run, **changes)
        for changes in ({}, {"data": "c"}, {"data": "c", "column": "d"})
    )
    assert (same.column, same.skip_bad, same.reset) == ("b", True, "")
    assert (other.column, other.skip_bad) == (None, False)
    left = f"Not used, because {run} has other data: skip_bad=True"
    assert other.reset.startswith(f"{left}, column='b'. Give")
    assert again.column == "d" and again.reset.startswith(f"{left}. Give")
    assert same.loading["evaluated"] is None
