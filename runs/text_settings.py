"""Settings of the apps that read texts, in addition to those of all apps."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Literal

import keras

from runs.presets import card
from runs.settings import AUTO, Auto, Data, Rates, Running, Settings, Training
from serving.writing import MOST_STOP_BYTES, compiled_sizes
from training.optimizers import layerwise_scale

PRETRAINED = ("elmo", "bert", "gpt")
"""Models that need a preset; the others begin with random weights."""
RECURRENT = ("rnn", "lstm", "gru")
SEQ2SEQ = "seq2seq"
TRANSFORMERS = ("bert", "gpt")
"""Families of networks."""
MAX_PAIRS = 2**19
"""Maximum number of pairs of tokens that a head of a Transformer attends to in a step, unless the
user chooses the batch size. With 12 heads and 6 layers, training then takes less than 3 GB."""
RECURRENT_RATE = 3.0
"""Factor of the learning rate of recurrent networks, if it is left out: with adamw 3e-3."""


@dataclass(frozen=True)
class TextSettings(Settings):
    """For apps that read texts with networks that may be pretrained."""

    NETWORK = (*Settings.NETWORK, "vocabulary_size", "length", "dropout")
    ROWS: ClassVar[int] = 1
    """Number of rows that the network reads of an example."""
    preset: str = "none"
    """Pretrained network: a name that KerasHub knows, or a folder in its or Hugging Face's layout;
    or the folder of a finished run of this app. `none` begins with random weights and a vocabulary
    learned from the training texts."""
    vocabulary_size: int = 8000
    """Maximum number of tokens in a vocabulary that is learned."""
    length: int = 128
    """Maximum number of tokens of a row; longer texts are truncated."""
    dropout: Training[Auto[float]] = AUTO
    """Dropout rate, in [0, 1): in recurrent networks, in heads on ELMo and
    in Transformers with random weights. A pretrained Transformer keeps its own. Default: by the
    network."""
    layer_decay: Training[float] = 1.0
    """Factor of the learning rate from each Transformer layer to the one below it, in (0, 1]."""

    def __post_init__(self):
        super().__post_init__()
        self.require_least(6, "vocabulary_size")
        self.require_least(8, "length")
        self.require_share("dropout")
        if not 0 < self.layer_decay <= 1:
            self._refuse("layer_decay", "in (0, 1]")

    @property
    def fine_tuned(self) -> bool:
        """Whether a pretrained Transformer is trained further."""
        return self.preset != "none" and self.family in TRANSFORMERS

    @property
    def usual(self) -> dict[str, Any]:
        usual = super().usual | {"dropout": 0.3}
        if self.fine_tuned:
            decay = 0.01 if self.optimizer == "adamw" else 0.0
            usual |= {"epochs": 3, "warmup_epochs": 0.3, "weight_decay": decay, "batch_size": 16}
        if self.family in TRANSFORMERS:
            size = usual["batch_size"]
            parts, pairs = 1, self.ROWS * size * self.length**2
            while pairs > MAX_PAIRS * parts and parts < size:
                parts *= 2
            # Both are chosen, or neither.
            chosen = (size // parts, parts)
            if (self.batch_size, self.accumulate) in ((None, None), chosen):
                usual |= dict(zip(("batch_size", "accumulate"), chosen, strict=True))
        return usual

    @property
    def advice(self) -> str:
        needs_less = "A pretrained network needs fewer: --model bert --preset NAME_OR_FOLDER."
        return needs_less if self.preset == "none" else ""

    @property
    def family(self) -> str:
        """The model without its size, such as bert of bert_tiny."""
        return self.model.partition("_")[0]

    def require_network(self, models: Collection[str]) -> None:
        """Requires one of the networks of the app, and the settings that go with it."""
        self.require_one_of(models, "model")
        pretrained = [name for name in models if name in PRETRAINED]
        self.require_preset_of(pretrained)
        untrained = [name for name in models if name not in PRETRAINED]
        transformers = [name for name in models if name.startswith(("bert", "gpt"))]
        heads = ["elmo"] if "elmo" in models else []
        self.require_only(transformers, "layer_decay")
        self.require_only([*untrained, *heads], "dropout")
        self.require_only(
            [name for name in untrained if not name.startswith("elmo")], "vocabulary_size"
        )

    def rates(
        self,
        width: Callable[[keras.Model], int],
        depths: Callable[[keras.Model], Mapping[str, int]],
    ) -> Rates:
        """Returns the learning rates, as `runs.run.train` takes them.

        If it is left out, a pretrained Transformer gets a tenth of the usual rate at a width of
        384, and less the wider it is: with adamw 1e-4, at a width of 768 5e-5 as in BERT. Recurrent
        networks, and ELMo with random weights, get `RECURRENT_RATE` times the usual rate. Other
        networks of finished runs get a tenth of what new ones get, at any width.

        Args:
            width: From a network to its width, as `models.transformers.width`.
            depths: From a network to the depth of each variable, as `models.transformers.depths`.
        """

        def rate(model):
            if self.fine_tuned:
                return self.rate(0.1 * 384 / width(model))
            is_recurrent = self.model in RECURRENT or self.model.startswith("elmo_")
            usual = RECURRENT_RATE if is_recurrent else 1.0
            return self.rate(0.1 * usual if self.continued else usual)

        def scale(model):
            return layerwise_scale(depths(model), self.layer_decay)

        return Rates(rate, None if self.layer_decay == 1.0 else scale)

    @property
    def reading(self) -> dict[str, Any]:
        """What readers of `preprocessing.readers` are made with."""
        return {
            "preset": self.part("tokenizer"),
            "length": self.length,
            "vocabulary_size": self.vocabulary_size,
        }

    @property
    def transformer(self) -> dict[str, Any]:
        """What `models.bert.encoder` and `models.gpt.decoder` build or load."""
        return {
            "size": self.model.partition("_")[2],
            "preset": self.part("preset"),
            "length": self.length,
            "dropout": self.dropout,
        }


@dataclass(frozen=True)
class PretrainingSettings:
    """For apps that pretrain a network on plain text, in addition to their other settings."""

    EPOCHS: ClassVar[int] = 30
    out: Running[Path]
    """Folder of the run: preset for the other text apps, versions for TensorFlow Serving,
    model.keras, report.html."""
    data: Data[str] = "python_docs"
    """`python_docs` (built in), `tfds:NAME`, a text file, or a folder of .txt files, optionally
    with train, dev and test in their names or below folders of these names. Blank lines, or titles
    as in WikiText, separate documents."""


@dataclass(frozen=True)
class WritingSettings(Settings):
    """For apps whose networks write texts token by token."""

    NETWORK = (
        *(*Settings.NETWORK, "vocabulary", "vocabulary_size"),
        *("length", "layers", "units", "dropout"),
    )
    preset: str = "none"
    """Folder of a finished run of this app, to train further; or with model gpt a pretrained GPT-2,
    Llama or a network of their kinds: a name that KerasHub knows, such as gpt2_base_en, or a folder
    in its or Hugging Face's layout. `none` begins with random weights."""
    vocabulary: Literal["bytes", "characters", "pieces"] = "bytes"
    """Tokens of a network without a preset: bytes, the characters of the training texts, or pieces
    that are frequent in them. All other characters are spelled in bytes, so that every text can be
    read and written."""
    vocabulary_size: int = 4000
    """Maximum number of pieces in a vocabulary that is learned, 256 bytes included."""
    length: int = 128
    """Maximum number of tokens that the network reads, those that it writes included."""
    layers: int = 1
    """Number of recurrent layers."""
    units: int = 256
    """Features of a token and of a recurrent state."""
    dropout: float = 0.1
    """Share of features that training drops, in [0, 1). A pretrained network keeps its own."""
    lora_rank: Training[int] = 0
    """Rank of the updates of the queries and values of each head that a pretrained network learns,
    by LoRA, while all its weights stay as they are. They are merged before the export. 0: all
    weights learn."""
    max_tokens: Auto[int] = AUTO
    """Maximum number of tokens that `serving_default` writes. Default: 128, or half of the
    length if that is less; with worked examples 32, or a quarter of it."""
    temperature: Auto[float] = AUTO
    """Divides the logits in `serving_default`; 0 always takes the likeliest token. Default: 0.8, or
    0 for answers after worked examples."""
    top_k: int = 0
    """Number of likeliest tokens that `serving_default` chooses from; 0: all."""
    top_p: float = 1.0
    """`serving_default` takes the fewest likeliest tokens that have this probability together, in
    1e-6 to 1."""
    repetition_penalty: float = 1.0
    """Divides positive logits of tokens that are there already, and multiplies negative ones, in
    0.01 to 100; 1: off."""
    compile_export: Running[bool] = False
    """Compile the loop of the export with XLA, for prompts and batches of a few sizes, to which
    others are padded. Clients may ask for at most `max_tokens` tokens. A server compiles before it
    answers, and must allow it: TensorFlow Serving needs `--xla_cpu_compilation_enabled`."""

    def __post_init__(self):
        super().__post_init__()
        self.require_least(2, "length")
        self.require_least(1, "layers", "units", "max_tokens")
        self.require_least(0, "temperature", "top_k")
        self.require_share("dropout")
        if self.max_tokens >= self.length:
            self._refuse("max_tokens", f"below the length, {self.length}")
        if not 1e-6 <= self.top_p <= 1:
            self._refuse("top_p", "in 1e-6 to 1")
        if not 0.01 <= self.repetition_penalty <= 100:
            self._refuse("repetition_penalty", "in 0.01 to 100")
        self.require_least(0, "lora_rank")
        self.require_least(1, "vocabulary_size")

    def require_network(self, models: Collection[str]) -> None:
        """Requires one of the networks of the app, and the settings that go with it."""
        self.require_one_of(models, "model")
        self.require_only(RECURRENT, "layers")
        self.require_only([name for name in models if name in (*RECURRENT, SEQ2SEQ)], "units")
        self.require_only(["gpt"], "lora_rank")
        untrained = [name for name in models if name != "gpt"]
        self.require_only(untrained, "dropout", "vocabulary", "vocabulary_size")
        if self.vocabulary != "pieces" and self.vocabulary_size != WritingSettings.vocabulary_size:
            self._refuse("vocabulary_size", "left out without vocabulary='pieces'")
        self.require_preset_of(["gpt"])

    @property
    def usual(self) -> dict[str, Any]:
        usual = super().usual | {"max_tokens": min(128, self.length // 2), "temperature": 0.8}
        if self.model == "gpt":
            usual |= {"epochs": 3}
        # A Transformer with random weights stalls if its first steps are large.
        return usual if self._is_recurrent else usual | {"warmup_epochs": 0.3}

    @property
    def _is_recurrent(self) -> bool:
        return self.model in (*RECURRENT, SEQ2SEQ)

    def rates(self, width: Callable[[keras.Model], int]) -> Rates:
        """Returns the learning rates, as `runs.run.train` takes them.

        If it is left out, recurrent networks get `RECURRENT_RATE` times the usual rate, and a
        Transformer a larger one the narrower it is: with adamw 3e-3 at 128 features, 1e-3 at 384
        and 5e-4 at 768. Networks of finished runs and presets get a tenth of that, with LoRA three
        tenths: 2e-4 at 576.

        Reference:
            Brown et al., Language Models are Few-Shot Learners, 2020, table 2.1: 6e-4 at 768
            features, 1e-4 at 5140. https://arxiv.org/abs/2005.14165

        Args:
            width: From a Transformer to its width, as `models.transformers.width`.
        """

        def rate(model):
            factor = RECURRENT_RATE if self._is_recurrent else 384 / width(model)
            if self.preset == "none":
                return self.rate(factor)
            return self.rate((0.3 if self.lora_rank else 0.1) * factor)

        return Rates(rate)

    @property
    def new_adapters(self) -> int:
        """Rank of the adapters that the network of a finished run gets; 0: none."""
        return 0 if self.EVALUATES else self.lora_rank

    @property
    def tokenizer(self) -> dict[str, Any]:
        """What `preprocessing.tokenizers.tokenizer` needs in addition to texts."""
        is_saved = self.model == "gpt" or (self.continued and self.vocabulary != "bytes")
        return {
            "folder": self.part("tokenizer") if is_saved else None,
            "kind": self.vocabulary,
            "size": self.vocabulary_size,
        }

    @property
    def text_writer(self) -> dict[str, Any]:
        """What `models.text_writers.text_writer` builds the network with."""
        names = ("length", "units", "layers", "dropout", "preset", "lora_rank")
        return {name: getattr(self, name) for name in names}

    def loop(self, context: int) -> dict[str, Any]:
        """Returns limit and sizes of `models.writing.continuing` and of `serving.writing.Writer`.

        Args:
            context: Maximum number of tokens of a prompt and what follows it.
        """
        if not self.compile_export:
            return {"limit": context - 1}
        return {"limit": self.max_tokens, "sizes": compiled_sizes(context)}

    @property
    def choice(self) -> dict[str, float]:
        """How `serving_default` chooses, by name of the input of `serving.writing`."""
        names = ("max_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed")
        return {name: getattr(self, name) for name in names}


FEW_SHOT_COLUMNS = ("text_column", "label_column")
"""Settings of the data that only texts with answers have."""


@dataclass(frozen=True)
class FewShotSettings(WritingSettings):
    """For apps whose networks write, and may be shown worked examples before each prompt."""

    text_column: Data[str | None] = None
    """Column of the texts, with `shots`. Default: found by its name."""
    label_column: Data[str | None] = None
    """Column of the answers, with `shots`. Default: found by its name."""
    shots: str | None = None
    """A .csv, .tsv, .jsonl or .json file of worked examples: texts with an answer each, in columns
    such as text and label, or prompt and answer. They precede each prompt, also in the export, and
    nothing is trained. `data` has such texts, too, whose answers are scored. Default: none."""
    num_shots: int | None = None
    """Number of worked examples. If the file has more, they are drawn by the seed, about equally
    many with each answer. Default: as many as fit into the length."""
    template: str = r"Input: {text}\nOutput: {label}\n\n"
    r"""Form of a worked example, and up to {label} of a prompt. `\n` is a line feed. An answer ends
    where the text behind {label} begins."""

    def __post_init__(self):
        super().__post_init__()
        self.require_least(0, "num_shots")
        for name in ("num_shots", "template", *FEW_SHOT_COLUMNS):
            if not self.shots and getattr(self, name) != getattr(FewShotSettings, name):
                self._refuse(name, "left out without `shots`")
        parts = re.split(r"(\{text\}|\{label\})", self.template)
        if parts[1::2] != ["{text}", "{label}"] or not all(parts[2::2]):
            self._refuse("template", "{text}, further text, {label} and further text")
        between, end = (parts[i].replace(r"\n", "\n") for i in (2, 4))
        if end in between[len(between.rstrip()) :]:
            self._refuse("template", "other before {label} than behind it, where an answer ends")
        if len(end.encode()) > MOST_STOP_BYTES:
            self._refuse("template", f"at most {MOST_STOP_BYTES} bytes long behind {{label}}")

    def require_network(self, models: Collection[str]) -> None:
        super().require_network(models)
        self.require_only([name for name in models if name not in RECURRENT], "shots")
        if self.shots and self.preset == "none":
            self._refuse("preset", "a pretrained network or the folder of a finished run")
        if self.shots and self.data == type(self).data:
            self._refuse("data", "texts with answers, as `shots` has them")
        if self.shots and self.epochs:
            self._refuse("epochs", "0 with `shots`, because nothing is trained")

    @property
    def usual(self) -> dict[str, Any]:
        if not self.shots:
            return super().usual
        answers = {"max_tokens": min(32, self.length // 4), "temperature": 0.0}
        return super().usual | {"epochs": 0, "warmup_epochs": 0.0, "batch_size": 64, **answers}

    @property
    def loading(self) -> dict[str, Any]:
        left_out = () if self.shots else FEW_SHOT_COLUMNS
        return {name: one for name, one in super().loading.items() if name not in left_out}

    @property
    def prompting(self) -> dict[str, Any]:
        """What `data.worked_examples.prompts` makes prompts with."""
        return {
            "template": self.template.replace(r"\n", "\n"),
            "seed": self.seed,
            "length": self.length,
            "max_tokens": self.max_tokens,
            "choose": self.fitting_shots,
        }

    def fitting_shots(self, sizes: Sequence[int], room: int) -> tuple[int, int]:
        """Returns the number of worked examples to read, and how many fit.

        Args:
            sizes: Tokens of each worked example, in the order in which they are taken.
            room: Tokens that the longest prompt and its answer leave.
        """
        totals = [0, *accumulate(sizes)]
        most = sum(total <= room for total in totals[1:])
        chosen = max(most, 1) if self.num_shots is None else self.num_shots
        if chosen > len(sizes):
            self._refuse("num_shots", f"at most {len(sizes)}, the examples in {self.shots}")
        if chosen > most:
            raise ValueError(
                f"`length` must be at least {self.length - room + totals[chosen]} for "
                f"num_shots={chosen}, the longest prompt and its answer. Received: "
                f"length={self.length}, which has room for {most} worked examples"
            )
        return chosen, most


@dataclass(frozen=True)
class ClassifierSettings(TextSettings):
    """For apps that classify texts or words, with recurrent networks and ELMo, too."""

    NETWORK = (
        *TextSettings.NETWORK,
        *("bidirectional", "layers", "units", "layer_normalization", "freeze"),
        *("tokens", "word_dropout", "embeddings"),
    )
    RECURRENT_TOKENS: ClassVar[str] = "auto"
    """Vocabulary of recurrent networks, as `kind` of `learned_vocabulary`."""
    preset: str = "none"
    """Pretrained network: a name that KerasHub knows, or a folder in its or Hugging Face's layout;
    for elmo the folder `preset` that elmo_pretraining writes; or the folder of a finished run of
    this app. `none` begins with random weights and a vocabulary learned from the training texts."""
    bidirectional: bool = True
    """Read in both directions (recurrent networks)."""
    layers: int = 1
    """Number of recurrent layers."""
    units: int = 128
    """Features of a recurrent state, for each direction."""
    layer_normalization: bool = False
    """Normalize inside the recurrent cells."""
    tokens: Literal["pieces", "words"] | None = None
    """Tokens of a vocabulary that is learned: word pieces, which spell rare words, or whole words
    that occur at least twice, so that rarer words are unknown. Default: pieces; in recurrent
    networks that classify texts, words if there are 40,000 or more to learn from and
    `vocabulary_size` has room for all."""
    word_dropout: Training[Auto[float]] = AUTO
    """Fraction of tokens that training replaces with [UNK], in [0, 1), in networks that read words
    or word pieces. Default: by the network."""
    embeddings: str | None = None
    """File of pretrained word vectors in GloVe's text format, from which the embeddings of
    recurrent networks begin. Default: random embeddings."""
    freeze: Training[bool | None] = None
    """Train only the head on ELMo. Default: with a preset. With random weights it measures the
    gain from pretraining."""

    def __post_init__(self):
        super().__post_init__()
        self.require_least(1, "layers", "units")
        self.require_share("word_dropout")

    def require_network(self, models: Collection[str]) -> None:
        super().require_network(models)
        elmo = [name for name in models if name.startswith("elmo")]
        learning = [name for name in models if name not in (*elmo, *PRETRAINED)]
        berts = [name for name in models if name == "bert"]
        self.require_only(RECURRENT, "bidirectional", "layers", "layer_normalization")
        self.require_only(RECURRENT, "embeddings")
        self.require_only(learning, "tokens")
        # The byte pairs of a pretrained GPT know every text: none is unknown.
        self.require_only([*learning, *berts], "word_dropout")
        self.require_only((*RECURRENT, *elmo), "units")
        self.require_only(elmo, "freeze")

    @property
    def usual(self) -> dict[str, Any]:
        usual = super().usual
        if self.model in RECURRENT:
            return usual | {"dropout": 0.5, "word_dropout": 0.1}
        if self.model.startswith("elmo_") and not self.continued:
            # It learns words from their letters, too.
            warmup = min(1.0, (self.epochs or 20) / 2)
            usual |= {"epochs": 20, "warmup_epochs": warmup, "clip_norm": 1.0}
        return usual | {"word_dropout": 0.0}

    @property
    def reading(self) -> dict[str, Any]:
        usual = self.RECURRENT_TOKENS if self.model in RECURRENT else "pieces"
        return super().reading | {"kind": self.tokens or usual}

    @property
    def recurrent(self) -> dict[str, Any]:
        """What the recurrent networks are built with."""
        return {
            "cell": self.model,
            "units": self.units,
            "layers": self.layers,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout,
            "layer_normalization": self.layer_normalization,
        }

    @property
    def elmo(self) -> dict[str, Any]:
        """What `models.elmo.encoder` builds or loads."""
        return {
            "size": self.model.partition("_")[2],
            "preset": self.preset,
            "dropout": self.dropout,
        }

    @property
    def elmo_head(self) -> dict[str, Any]:
        """What the heads on ELMo are built with."""
        freeze = self.preset != "none" if self.freeze is None else self.freeze
        return {"trainable": not freeze, "units": self.units, "dropout": self.dropout}


@dataclass(frozen=True)
class Seq2SeqSettings(Settings):
    """For apps with `seq2seq`, a recurrent encoder and decoder."""

    NETWORK = (*Settings.NETWORK, "cell", "attention", "luong_score", "units")
    cell: Literal["gru", "lstm"] = "gru"
    """Recurrent cell of seq2seq."""
    attention: Literal["bahdanau", "luong", "none"] = "bahdanau"
    """What the decoder of seq2seq sees of the encoder, in addition to its last state."""
    luong_score: Literal["dot", "general", "concat"] = "general"
    """Score of a token in the attention of Luong et al."""
    units: int = 256
    """Features of a token and of a state of seq2seq; even."""

    def require_seq2seq(self) -> None:
        """Requires settings that go with seq2seq, or with another network."""
        self.require_only([SEQ2SEQ], "cell", "attention", "luong_score")
        if self.is_seq2seq and self.units % 2:
            self._refuse("units", "even")
        if self.attention != "luong" and self.luong_score != "general":
            raise ValueError(
                "`luong_score` is for attention='luong'. Received: "
                f"attention={self.attention!r}, luong_score={self.luong_score!r}"
            )

    @property
    def is_seq2seq(self) -> bool:
        return self.model == SEQ2SEQ

    @property
    def encoder_decoder(self) -> dict[str, Any]:
        """What the network is built with."""
        names = ("cell", "attention", "luong_score", "units", "dropout")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class EncoderDecoderSettings(Seq2SeqSettings):
    """For apps whose networks read with an encoder and write with a decoder."""

    NETWORK = (*Seq2SeqSettings.NETWORK, "dropout", "norm_first")
    norm_first: bool = False
    """Normalize before each sublayer of a Transformer, and not after it as in the paper."""
    dropout: Training[Auto[float]] = AUTO
    """Dropout rate, in [0, 1). Default: by the network."""
    label_smoothing: Training[float] = 0.1
    """Share of each label that is spread over all tokens, in [0, 1)."""
    attention_layer: int | None = None
    """Index of the layer of a Transformer whose attention is shown. Default: the mean of all."""
    attention_head: int | None = None
    """Index of the head of a Transformer whose attention is shown. Default: the mean of all."""

    def __post_init__(self):
        super().__post_init__()
        self.require_preset()
        self.require_least(2, "units")
        self.require_least(0, "attention_layer", "attention_head")
        self.require_share("dropout", "label_smoothing")

    def require_network(self, models: Collection[str], sizes: Mapping[str, Any]) -> None:
        """Requires one of the networks of the app, and the settings that go with it.

        Args:
            models: Names of the networks; those of Transformers are `transformer_SIZE`.
            sizes: Number of layers and of heads of each Transformer, as attributes, by its size.
        """
        self.require_one_of(models, "model")
        transformers = [name for name in models if name.startswith("transformer")]
        others = [name for name in models if name not in transformers]
        self.require_only(others, "units")
        self.require_seq2seq()
        self.require_only(transformers, "norm_first", "attention_layer", "attention_head")
        if self.model in transformers:
            size = sizes[self.model.partition("_")[2]]
            self._require_index("attention_layer", size.num_layers)
            self._require_index("attention_head", size.num_heads)

    def _require_index(self, name: str, count: int) -> None:
        index = getattr(self, name)
        if index is not None and index >= count:
            self._refuse(name, f"in 0 to {count - 1} with model={self.model!r}")

    @property
    def usual(self) -> dict[str, Any]:
        usual = super().usual | {"dropout": 0.2}
        if "transformer" in self.model:
            usual |= {"dropout": 0.1, "warmup_epochs": min(1.0, (self.epochs or 2) / 2)}
        return usual

    @property
    def encoder_decoder(self) -> dict[str, Any]:
        return super().encoder_decoder | {"norm_first": self.norm_first}

    def rate(self, factor: float | None = None) -> float:
        recurrent = "transformer" not in self.model and not self.continued
        return super().rate(factor or (RECURRENT_RATE if recurrent else None))


@dataclass(frozen=True)
class PairSettings(ClassifierSettings):
    """For apps that classify texts or pairs of texts."""

    FORMER: ClassVar = {"symmetric": ("orders", {True: "symmetric", False: "given"})}
    orders: Auto[Literal["given", "both", "symmetric"]] = AUTO
    """Orders in which BERT and GPT read the texts of a pair: given; both, in twice the time and
    memory; or symmetric: both, for texts whose order has no meaning. Default: both in a pretrained
    BERT, and as the network of a finished run does it."""

    def __post_init__(self):
        super().__post_init__()
        if self.continued:
            stored, own = self.stored(self.continued).get("orders"), self.usual["orders"]
            if self.orders not in (stored, own):
                self._refuse("orders", f"{own!r}, as in {self.continued}")
            object.__setattr__(self, "orders", own)

    def require_network(self, models: Collection[str]) -> None:
        super().require_network(models)
        self.require_only([one for one in models if one.startswith(TRANSFORMERS)], "orders")

    @property
    def usual(self) -> dict[str, Any]:
        usual = "both" if self.fine_tuned and self.family == "bert" else "given"
        if self.continued:
            usual = self.stored(self.continued).get("orders", "given")
            # A network of single texts has one order, also if it would have had two for pairs.
            if usual != "given" and not _reads_pairs(self.continued):
                usual = "given"
        return super().usual | {"orders": usual}

    @property
    def needs_pairs(self) -> bool:
        """Whether the network can read nothing but pairs."""
        return self.orders == "symmetric" or (self.continued is not None and self.orders != "given")

    @property
    def reading(self) -> dict[str, Any]:
        return super().reading | {"both_orders": self.orders != "given"}


def _reads_pairs(run: Path) -> bool:
    """Whether the network of a finished run was trained on pairs of texts."""
    return len(card(run)["signatures"]["serving_default"]["inputs"]) == 2
