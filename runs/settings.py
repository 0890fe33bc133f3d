"""Settings that all apps have."""

import inspect
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import keras

from data.sources import Evaluated
from runs.presets import card
from training.optimizers import LEARNING_RATES, OptimizerName, Schedule
from training.setup import Precision, Strategy

_Value = TypeVar("_Value")
if TYPE_CHECKING:
    Auto = Annotated[_Value, "chosen by the network if left out"]
else:

    class Auto:
        """Type of a setting that is chosen by the network if it is left out; a value afterwards."""

        def __class_getitem__(cls, kind):
            return kind | None


Data = Annotated[_Value, "data"]
Training = Annotated[_Value, "training"]
Running = Annotated[_Value, "run"]
GROUPS = {
    "data": "data",
    "network": "network",
    "training": "training",
    "run": "the run and its files",
}
"""Groups of settings in the help. `Data`, `Training` and `Running` put a setting into one of them;
all others are about the network."""

AUTO: Any = None
"""Default of a setting that the network chooses."""


class Rates(NamedTuple):
    """Learning rates that depend on the network.

    Args:
        peak: From the network to the peak learning rate.
        scale: From the network to `scale` of `training.optimizers.optimizer`. None: 1 throughout.
    """

    peak: Callable[[keras.Model], float]
    scale: Callable[[keras.Model], Callable[[str], float]] | None = None


class Listing(Exception):
    """Raised for `--model help`; its text is the list to show."""


class Checked(Exception):
    """Raised instead of training if only the data is to be checked; its text says so."""


@dataclass(frozen=True)
class Settings:
    """What every app has; an app's config gives the defaults and adds what its task needs.

    The methods `require_*` raise `ValueError` for a setting that is out of range, and for one that
    the network would ignore. Apps call them in `__post_init__`, so before any data is read.
    """

    EPOCHS: ClassVar[int] = 10
    """Passes over the training set, where the network needs no other number."""
    BATCH_SIZE: ClassVar[int] = 32
    """Examples of an update of the weights, where the network needs no other number."""
    NETWORK: ClassVar[tuple[str, ...]] = ("model", "precision")
    """Settings that a network keeps when another run trains it further (`--preset RUN`)."""
    FORMER: ClassVar[Mapping[str, tuple[str, Mapping[Any, Any]]]] = {}
    """Settings that older versions of Hornbook had, by name: the one that replaces each, and its
    values by theirs."""
    STAGES: ClassVar[Mapping[str | None, type[Any]]] = {}
    """Settings of further stages of an app, by the value of its setting `stage`."""
    EVALUATES: ClassVar[bool] = False
    """Whether the network of the run `preset` is evaluated, and not trained."""
    data: Data[str]
    """The examples."""
    model: str
    """The network; `--model help` lists them."""
    out: Running[Path]
    """Folder of the run: versions for TensorFlow Serving, model.keras, report.html."""
    epochs: Training[Auto[int]] = AUTO
    """Passes over the training set; 0 evaluates and exports the network as it is. Default: by the
    network."""
    preset: str = "none"
    """Folder of a finished run of this app, to train further. `none` begins with random weights."""
    skip_bad: Data[bool] = False
    """Leave bad examples out instead of stopping."""
    batch_size: Training[Auto[int]] = AUTO
    """Global batch size: examples per step, over all devices. Default: by the network."""
    optimizer: Training[OptimizerName] = "adamw"
    """Optimizer; momentum and nesterov are SGD with a momentum of 0.9, adam_98 is Adam with the
    Transformer's second momentum of 0.98."""
    learning_rate: Training[float | None] = None
    """Peak learning rate. Default: the usual value of the optimizer and the network."""
    schedule: Training[Schedule] = "cosine"
    """Course of the learning rate after the warm-up."""
    warmup_epochs: Training[Auto[float]] = AUTO
    """Epochs over which the learning rate rises from 0. Default: by the network."""
    weight_decay: Training[Auto[float]] = AUTO
    """Decoupled weight decay. Default: by the network with adamw, 0 with the others."""
    clip_norm: Training[float | None] = None
    """Maximum norm of all gradients of a step together. Default: by the network; most have none."""
    accumulate: Training[Auto[int]] = AUTO
    """Batches whose gradients are averaged for one update, for large batches in little memory. A
    loss that is a mean over tokens weighs all these batches equally, regardless of their number of
    tokens. Default: 1, or by the length of the texts if `batch_size` is left out, too."""
    average: Training[float | None] = None
    """Decay of a moving average of the weights, such as 0.999, which is evaluated and exported in
    place of the weights. Default: none."""
    keep: Training[Literal["best", "last"]] = "best"
    """Epoch whose weights are evaluated and exported: `best`: the latest on a par with the best on
    validation, within one standard error of an accuracy (of an F1 a rough one); or `last`."""
    monitor: Training[str | None] = None
    """Validation metric that decides which epoch is the best, and when `patience` ends, such as
    val_loss. Default: the usual score of the task."""
    patience: Training[int] = 0
    """Stop after so many epochs in a row without a better `monitor`; 0 never stops early."""
    seed: Running[int] = 0
    """Seed of weights, shuffling, dropout and augmentation."""
    precision: Running[Precision] = "float32"
    """Type of the computations; weights are float32."""
    strategy: Running[Strategy] = "none"
    """Devices to train on: `mirrored`: all GPUs; `multi_worker`: the processes in TF_CONFIG, which
    share the folder `out`."""
    jit_compile: Running[bool] = False
    """Compile the training step with XLA, once for each shape of a batch: often faster on GPUs,
    and on CPUs for small networks on a quiet machine."""
    resume: Running[bool] = False
    """Fail if there is no interrupted run to resume. Without it a run resumes if there is one."""
    checkpoint_every: Running[int | None] = None
    """Number of steps between checkpoints, in addition to those written by time. A killed run
    loses its last 10 s and up to 10 steps, or more where writing takes longer than half a second;
    a run that is stopped with Ctrl-C loses nothing."""
    check: Running[bool] = False
    """Read and check the data, print what was found, and stop before training."""
    tensorboard: Running[bool] = False
    """Write logs for TensorBoard into the sub-folder `tensorboard` of `out`: the metrics of each
    epoch, and the pictures of the report."""

    def __post_init__(self):
        for name, value in self.usual.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.continued:
            self._require_network_of(self.continued)
        for name, kind in get_type_hints(type(self)).items():
            choices = [c for part in (kind, *get_args(kind)) for c in _choices(part)]
            if choices and type(None) in get_args(kind):
                choices.append(None)
            if choices and getattr(self, name) not in choices:
                self._refuse(name, f"one of {', '.join(map(str, choices))}")
        self.require_least(1, "batch_size", "checkpoint_every", "accumulate")
        self.require_least(0, "epochs", "learning_rate", "warmup_epochs", "weight_decay")
        self.require_least(0, "patience", "seed")
        if self.seed >= 2**31:
            self._refuse("seed", "below 2**31")
        if self.warmup_epochs >= self.epochs > 0:
            self._refuse("warmup_epochs", f"below the number of epochs, {self.epochs}")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            self._refuse("clip_norm", "above 0")
        if self.accumulate > 1 and self.jit_compile and self.strategy != "none":
            self._refuse("accumulate", "1 with jit_compile and a strategy")
        if self.keep == "last" and self.monitor and not self.patience:
            raise ValueError(
                "`monitor` has no use with keep='last' and without patience. "
                f"Received: monitor={self.monitor!r}"
            )
        if self.average is not None and not 0 < self.average < 1:
            self._refuse("average", "above 0 and below 1")

    @property
    def usual(self) -> dict[str, Any]:
        """The values of settings that the network chooses if they are left out."""
        return {
            "epochs": self.EPOCHS,
            "batch_size": self.BATCH_SIZE,
            "accumulate": 1,
            "warmup_epochs": 0.5 if self.continued else 0.0,
            "weight_decay": 0.05 if self.optimizer == "adamw" else 0.0,
        }

    @property
    def advice(self) -> str:
        """What to try when there are few training examples; empty if nothing better is known."""
        return ""

    def rate(self, factor: float | None = None) -> float:
        """Returns the peak learning rate.

        Args:
            factor: By what the network needs it smaller than usual, if it is left out. None: 1, and
                0.1 for the network of another run.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        if factor is None:
            factor = 0.1 if self.continued else 1.0
        return factor * LEARNING_RATES[self.optimizer]

    @property
    def is_foreign(self) -> bool:
        """Whether a finished network is evaluated on other data than that of its run."""
        if not self.EVALUATES:
            return False
        if self.continued is None:
            return True
        if self.source_of(self.data) != self.sources_of(self.continued)[-1]:
            return True
        then = self.stored(self.continued)
        for name in self.of_data():
            if name != "skip_bad" and getattr(self, name) != then.get(name):
                raise ValueError(
                    f"`{name}` must be {then.get(name)!r} for the data that the network was "
                    "trained on: otherwise examples that it has seen may be in the test split. "
                    f"Received: {name}={getattr(self, name)!r}"
                )
        return False

    @property
    def reset(self) -> str:
        """A remark on the settings of a run that are not used for other data; "" if there are none.

        They may be given again.
        """
        if self.continued is None or not self.is_foreign:
            return ""
        then, defaults = self.stored(self.continued), vars(self.draft({}))
        names = [
            f"{name}={then[name]!r}"
            for name in self.of_data()
            if then.get(name, defaults[name]) != defaults[name] == getattr(self, name)
        ]
        return (
            f"Not used, because {self.continued} has other data: {', '.join(names)}. Give such "
            "options again if they are for these data, too."
            if names
            else ""
        )

    @classmethod
    def of_data(cls) -> list[str]:
        """Returns the names of the settings about the data, apart from the data itself."""
        names = [field.name for field in fields(cls) if field.name != "data"]
        return [name for name in names if cls.group_of(name) == "data"]

    @property
    def sources(self) -> list[str]:
        """What the network is trained on: that of the runs before, if it is continued, then `data`.

        Each is a name, or the absolute path of files.
        """
        before = self.sources_of(self.continued) if self.continued else []
        return [*before, self.source_of(self.data)]

    @classmethod
    def sources_of(cls, run: str | Path) -> list[str]:
        """Reads the `sources` of a finished run from its config.json."""
        # Not from the model card, which goes where the export goes and has no absolute paths.
        values = json.loads((Path(run) / "config.json").read_text(encoding="utf-8"))
        # Older versions of Hornbook did not write them.
        return values.get("sources") or [cls.source_of(values["data"])]

    @classmethod
    def source_of(cls, data: str) -> str:
        """Returns data as `sources` names it; the default is built in, so it is no path."""
        is_path = data != getattr(cls, "data", None) and Path(data).exists()
        return str(Path(data).resolve()) if is_path else data

    @property
    def continued(self) -> Path | None:
        """Folder of the finished run whose network is trained further; None for other presets."""
        folder = Path(self.preset)
        return folder if (folder / "model.keras").is_file() else None

    def part(self, name: str) -> str:
        """Returns a folder of that name in the run that is continued, or else the preset."""
        return str(self.continued / name) if self.continued else self.preset

    def _require_network_of(self, run: Path) -> None:
        for name, value in self.stored(run).items():
            is_free = name in self.evaluation() if self.EVALUATES else name not in self.NETWORK
            if not is_free and getattr(self, name) != value:
                raise ValueError(
                    f"`{name}` must be {value!r}, as in the run {run}. Received: "
                    f"{name}={getattr(self, name)!r}. Fix: leave it out, and in Python begin with "
                    f"Config.continuing({str(run)!r})."
                )

    @classmethod
    def group_of(cls, name: str) -> str:
        """Returns the group of a setting, one of `GROUPS`: that which its type names."""
        for base in cls.__mro__:
            hint = inspect.get_annotations(base).get(name)
            named = [part for part in get_args(hint) if part in GROUPS]
            if named:
                return named[0]
        return "network"

    @classmethod
    def evaluation(cls) -> list[str]:
        """Lists the settings that may change when a finished network is evaluated.

        They are those of the data, and some that no score depends on.
        """
        names = [field.name for field in fields(cls)]
        free = ("out", "preset", "batch_size", "accumulate")
        return [name for name in names if name in free or cls.group_of(name) == "data"]

    @property
    def loading(self) -> dict[str, Any]:
        """The settings of the data by name, as the `load` of a module in data/ takes them.

        `evaluated` has the labels of a network that is evaluated on other data than its own.
        """
        evaluated = None
        if self.is_foreign:
            labels = card(self.continued).get("classes", ()) if self.continued else ()
            evaluated = Evaluated(tuple(labels))
        settings = {name: getattr(self, name) for name in ("data", *self.of_data())}
        return {**settings, "evaluated": evaluated}

    def require_one_of(self, known: Collection[Any], name: str) -> None:
        """Requires one of the known values, or None; lists them for a model called help."""
        if name == "model" and self.model == "help":
            raise Listing("\n".join(known))
        if getattr(self, name) not in (None, *known):
            named = f"one of {', '.join(map(str, known))}" if known else "left out"
            self._refuse(name, f"{named} with model={self.model!r}" if name != "model" else named)

    def require_preset(self, *known: str) -> None:
        """Requires the folder of a finished run of this app, none, or one of further presets."""
        if not self.continued and self.preset not in (*known, "none"):
            kinds = ", ".join(("the folder of a finished run", *known))
            self._refuse("preset", f"{kinds} or none")

    def require_preset_of(self, pretrained: Collection[str]) -> None:
        """Requires a preset with the models that begin with one, and with no other new network."""
        if not self.continued and (self.model in pretrained) != (self.preset != "none"):
            raise ValueError(
                f"`preset` must be given with model {' or '.join(pretrained)}, and only then, or "
                "be the folder of a finished run. "
                f"Received: model={self.model!r}, preset={self.preset!r}"
            )

    def require_least(self, least: float, *names: str) -> None:
        """Requires finite numbers of at least `least`, also of each number of a tuple, or None."""
        for name in names:
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(one is None or least <= one < math.inf for one in numbers):
                self._refuse(name, f"at least {least}")

    def require_share(self, *names: str) -> None:
        """Requires numbers in [0, 1), or None."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                self._refuse(name, "in [0, 1)")

    def require_only(self, models: Collection[str], *names: str) -> None:
        """Requires the default values of settings that other networks than `models` ignore."""
        defaults = {
            field.name: self.usual.get(field.name) if field.default is None else field.default
            for field in fields(self)
        }
        for name in names:
            if self.model not in models and getattr(self, name) != defaults[name]:
                raise ValueError(
                    f"`{name}` is for the models {', '.join(models)}. "
                    f"Received: model={self.model!r}, {name}={getattr(self, name)!r}"
                )

    def _refuse(self, name: str, expected: str) -> None:
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={getattr(self, name)!r}")

    @property
    def fixed_lengths(self) -> bool:
        """Whether all batches have one length, because XLA compiles anew for each."""
        return self.jit_compile

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that differ from their defaults, those that the network chooses included."""
        draft = self.draft(vars(self))
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(draft, field.name) != field.default
        }

    @property
    def saved(self) -> dict[str, Any]:
        """The settings as JSON values, as the run folder and the model card hold them."""
        return json.loads(json.dumps({**asdict(self), "out": str(self.out)}))

    @classmethod
    def load(cls, path: str | Path, **changes: Any) -> Self:
        """Reads the settings of a run from its `config.json`.

        Args:
            path: The file, or the folder of the run.
            changes: Settings with other values. A setting whose value is the one that the network
                chose, such as the epochs, is chosen again.
        """
        cls = cls.of_run(path)
        return cls(**{**vars(cls.draft(cls.stored(path))), **changes})

    @classmethod
    def continuing(cls, run: str | Path, **changes: Any) -> Self:
        """Returns settings of a run that trains the network of another run further.

        Args:
            run: Folder of the other run.
            changes: Settings that differ from their defaults.
        """
        cls = cls.of_run(run)
        return cls(**{**cls.network_of(run), "preset": str(run), **changes})

    @classmethod
    def evaluating(cls, run: str | Path, **changes: Any) -> Self:
        """Returns settings with which `main` evaluates the network of a finished run.

        Args:
            run: Folder of the run.
            changes: Settings with other values than in the run, such as `data`; `evaluation` lists
                those that may have one. The results go to a new folder below `run`.
        """
        evaluated = cls.of_run(run).evaluated()
        draft = evaluated.evaluation_draft(run, changes.get("data"))
        return evaluated(**{**vars(draft), **changes})

    @classmethod
    def of_stage(cls, name: str | None) -> type[Self]:
        """Returns the settings of a stage; these for that which they are of, and for None."""
        return cls.STAGES.get(name, cls)

    @classmethod
    def of_run(cls, path: str | Path) -> type[Self]:
        """Returns the settings of the stage that a `config.json` is of."""
        return cls.of_stage(cls.values_of(path).get("stage"))

    @classmethod
    def evaluated(cls) -> type[Self]:
        """Returns the class of settings that evaluate."""
        return type(cls.__name__, (cls,), {"EVALUATES": True, "__module__": cls.__module__})

    @classmethod
    def evaluation_draft(cls, run: str | Path, data: str | None = None) -> Self:
        """Returns a draft of what `evaluating` does without changes.

        Args:
            run: As in `evaluating`.
            data: The data if the user names it. Settings about that of the run then have their
                defaults, unless it is the same.
        """
        # No bare number: a server would take that for a version of a model.
        folders = (Path(run) / "evaluations" / f"evaluation_{number}" for number in count(1))
        out = next(folder for folder in folders if not folder.exists())
        values = cls.stored(run)
        if data is not None and cls.source_of(data) != cls.sources_of(run)[-1]:
            values = {name: values[name] for name in values if name not in cls.of_data()}
            values["data"] = data
        return cls.draft({**values, "preset": str(run), "out": out})

    @classmethod
    def network_of(cls, run: str | Path) -> dict[str, Any]:
        """Returns the settings of the network of a run."""
        values = cls.stored(run)
        return {name: values[name] for name in cls.NETWORK if name in values}

    @classmethod
    def draft(cls, values: Mapping[str, Any]) -> Self:
        """Returns settings that are not checked, without those that the network chose.

        Args:
            values: By name of the setting. Others have their defaults.
        """
        draft = object.__new__(cls)
        for field in fields(cls):
            object.__setattr__(draft, field.name, values.get(field.name, field.default))
        given = dict(vars(draft))
        for name, value in draft.usual.items():
            if getattr(draft, name) == value:
                object.__setattr__(draft, name, None)
        # What the network would choose otherwise now, it did not choose.
        for name, value in draft.usual.items():
            if getattr(draft, name) is None and value != given[name]:
                object.__setattr__(draft, name, given[name])
        return draft

    @classmethod
    def stored(cls, path: str | Path) -> dict[str, Any]:
        """Reads the values of a `config.json`; refuses unknown names and wrong types.

        Settings that an older version of Hornbook did not have may be missing.
        """
        values, path = cls.values_of(path), _config_of(path)
        values.pop("sources", None)  # No setting; `sources_of` reads them.
        for former, (name, by_value) in cls.FORMER.items():
            if former in values:
                values[name] = by_value[values.pop(former)]
        known = {field.name: field for field in fields(cls)}
        if unknown := [name for name in values if name not in known]:
            preset = path.with_name("preset")
            fix = "use the app and the version of Hornbook that wrote the file"
            raise ValueError(
                f"{path}: expected settings of this app. Received: {', '.join(unknown)}. "
                f"Fix: {f'pass --preset {preset}' if preset.is_dir() else fix}."
            )
        kinds = get_type_hints(cls)
        for name, value in values.items():
            try:
                values[name] = _typed(kinds[name], value)
            except TypeError:
                kind = kinds[name]
                shown = kind.__name__ if isinstance(kind, type) else str(kind)
                raise ValueError(
                    f"{path}: `{name}` must be of type {shown}. Received: {name}={value!r}"
                ) from None
        return values

    @staticmethod
    def values_of(path: str | Path) -> dict[str, Any]:
        """Reads the JSON of a `config.json`, of any app."""
        path = _config_of(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected the config.json of a run. Received: no file")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON. Received: {error}") from None
        if not isinstance(values, dict):
            raise ValueError(f"{path}: expected an object. Received: {type(values).__name__}")
        return values


def _config_of(path: str | Path) -> Path:
    """Returns the `config.json` of a path, which is the file itself or the folder of a run."""
    return Path(path) / "config.json" if Path(path).is_dir() else Path(path)


def _typed(kind: Any, value: Any) -> Any:
    """Returns a JSON value as a type has it; raises `TypeError` for a value of another type."""
    parts = get_args(kind)
    match get_origin(kind):
        case origin if origin in (Union, UnionType):
            for part in parts:
                try:
                    return _typed(part, value)
                except TypeError:
                    continue
        case origin if origin is Literal:
            # Which values are allowed is checked, and said, when the settings are made.
            if type(value) in map(type, parts):
                return value
        case origin if origin is tuple:
            if isinstance(value, list):
                if len(parts) == 2 and parts[1] is Ellipsis:
                    parts = parts[:1] * len(value)
                if len(value) == len(parts):
                    return tuple(map(_typed, parts, value))
        case _:
            if kind is Path and isinstance(value, str):
                return Path(value)
            if kind is float and type(value) is int:
                return float(value)
            if type(value) is kind:
                return value
    raise TypeError


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()
