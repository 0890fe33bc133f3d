"""ELMo: a bidirectional language model of characters, and heads on all of its layers."""

from pathlib import Path
from typing import Any, NamedTuple

import keras
from keras import ops

from layers import AttentionPooling, Highway, ProjectedLSTMCell, ScalarMix

FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
"""Width of filters in characters, and the number of filters of that width."""


class ElmoSize(NamedTuple):
    """Features of a carry and of a hidden state, highway layers, filters over characters."""

    units: int
    projection: int
    highways: int
    filters: tuple[tuple[int, int], ...] = FILTERS


ELMO_SIZES = {
    "tiny": ElmoSize(256, 64, 1, ((1, 16), (2, 32), (3, 64), (4, 128))),
    "small": ElmoSize(1024, 128, 1),
    "medium": ElmoSize(2048, 256, 1),
    "original": ElmoSize(4096, 512, 2),
}
"""original: Peters et al. (2018), section 3.4; small and medium: their published models of 13.6 and
28.0 million parameters, https://allenai.org/allennlp/software/elmo; tiny is for small data."""

NAMES = ("elmo", *(f"elmo_{size}" for size in ELMO_SIZES))
"""`elmo` is pretrained; the others have random initial weights."""

POOLS = ("attention",)
LAYERS = 2
CHARACTER_DIM = 16
WORD_LENGTH = 50
"""Characters per word, including its start and end marks."""

PRESET = "elmo.keras"
"""File with the backbone in the folder of a preset."""


def elmo_backbone(
    size: str = "original", num_characters: int = 262, dropout: float = 0.1
) -> keras.Model:
    """Builds the network of ELMo: words from characters, then LSTMs in both directions.

    The features of a word are the maxima of convolutions over its characters, ReLU, highway layers
    and a projection. Two stacks of two projected LSTMs follow, one forward and one backward, which
    share no weights. The input of the second layer of a stack is added to its output. The features
    of padding are 0.

    Reference:
        Peters et al., Deep Contextualized Word Representations, 2018, sections 3.1 and 3.4.
        https://arxiv.org/abs/1802.05365
        Kim et al., Character-Aware Neural Language Models, 2016, section 2.
        https://arxiv.org/abs/1508.06615

    Args:
        size: `tiny`, `small`, `medium` or `original`.
        num_characters: Number of character ids, at least 1; 262 in the paper: 256 bytes, marks and
            padding.
        dropout: Dropout rate of the inputs of each LSTM, in [0, 1).

    Returns:
        A model from characters int32 `(batch, words, 50)`, 0 in padding, to a list of three layers
        `(batch, words, 2 * projection)`: the features of words without context, twice, and the two
        LSTM layers, forward features first.
    """
    if size not in ELMO_SIZES:
        raise ValueError(f"`size` must be one of {', '.join(ELMO_SIZES)}. Received: {size=}")
    chosen = ELMO_SIZES[size]
    characters = keras.Input((None, WORD_LENGTH), dtype="int32", name="characters")
    mask = _words(characters)
    words = _word_features(characters, chosen, num_characters)
    words = ops.where(mask[:, :, None], words, 0.0)
    stacks = [_stack(words, mask, chosen, dropout, name) for name in ("forward", "backward")]
    layers = [
        keras.layers.Concatenate(name=f"layer{number}")(list(pair))
        for number, pair in enumerate(zip(*stacks, strict=True))
    ]
    return keras.Model(characters, layers, name="elmo")


def save_elmo(backbone: keras.Model, folder: str | Path) -> None:
    """Writes the preset that `pretrained_elmo` reads.

    Args:
        backbone: From `elmo_backbone`.
        folder: Folder of the preset; created if it does not exist.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    backbone.save(Path(folder) / PRESET)


def pretrained_elmo(folder: str | Path) -> keras.Model:
    """Loads the network of ELMo.

    Args:
        folder: A folder that `save_elmo` wrote.

    Returns:
        A model as from `elmo_backbone`, in the precision of the global policy.
    """
    path = Path(folder) / PRESET
    if not path.is_file():
        raise FileNotFoundError(
            f"`folder` must hold {PRESET}, as written by the app elmo_pretraining. "
            f"Received: folder={str(folder)!r}"
        )
    saved = keras.saving.load_model(path, compile=False)
    backbone = keras.models.clone_model(saved, clone_function=_at_policy)
    backbone.set_weights(saved.get_weights())
    return backbone


def _at_policy(part: Any) -> Any:
    """Creates a copy of a layer with the precision of the global policy."""
    policy, config = keras.config.dtype_policy().name, part.get_config()
    if isinstance(part, keras.layers.Layer) and not isinstance(part, keras.layers.InputLayer):
        config["dtype"] = policy
    if isinstance(part, keras.layers.RNN):
        config["cell"]["config"]["dtype"] = policy
    return type(part).from_config(config)


def encoder(*, size: str, preset: str, dropout: float) -> keras.Model:
    """Builds ELMo with random weights; if `size` is empty, loads a preset instead.

    The arguments are those of `elmo_backbone` and `pretrained_elmo`.
    """
    return elmo_backbone(size, dropout=dropout) if size else pretrained_elmo(preset)


def elmo_language_model(backbone: keras.Model, vocabulary_size: int) -> keras.Model:
    """Builds ELMo with its head for pretraining, which predicts the next and the previous word.

    Both directions share one softmax over the whole vocabulary. The model shares the layers of the
    backbone, so that training changes the backbone, too.

    Reference:
        Peters et al., 2018, section 3.1. https://arxiv.org/abs/1802.05365

    Args:
        backbone: From `elmo_backbone`.
        vocabulary_size: Number of words to predict; at least 1.

    Returns:
        A model from characters `(batch, words, 50)` to two logits `(batch, words,
        vocabulary_size)`: `forward` predicts the next word from this one and those before it,
        `backward` the previous word from this one and those after it.
    """
    forward, backward = ops.split(backbone.output[-1], 2, axis=-1)
    softmax = keras.layers.Dense(vocabulary_size, dtype="float32", name="softmax")
    outputs = {"forward": softmax(forward), "backward": softmax(backward)}
    return keras.Model(backbone.input, outputs, name="elmo_language_model")


def elmo_classifier(
    backbone: keras.Model,
    num_classes: int,
    trainable: bool = False,
    units: int = 128,
    dropout: float = 0.5,
) -> keras.Model:
    """Builds a classifier on ELMo: a mix of its layers, a bidirectional LSTM and attention.

    Reference:
        Peters et al., 2018, sections 3.2 and 3.3. https://arxiv.org/abs/1802.05365

    Args:
        backbone: From `elmo_backbone`.
        num_classes: Number of classes; at least 1.
        trainable: Whether to train the backbone, too. If not, it is frozen and its dropout rate is
            set to 0.
        units: Features of the LSTM's state, per direction; at least 1.
        dropout: Dropout rate of the mix and of the pooled features, in [0, 1).

    Returns:
        A model from `characters`, int32 `(batch, words, 50)`, to logits `(batch, num_classes)`.
    """
    inputs, mask, x = _read(backbone, trainable, units, dropout)
    x, _ = AttentionPooling(units, name="attention")(x, mask=mask, return_attention_scores=True)
    return keras.Model(inputs, _linear(x, num_classes, dropout), name="elmo_classifier")


def elmo_tagger(
    backbone: keras.Model,
    num_tags: int,
    trainable: bool = False,
    units: int = 128,
    dropout: float = 0.5,
) -> keras.Model:
    """Builds a classifier of each word on ELMo: a mix of its layers and a bidirectional LSTM.

    Reference:
        Peters et al., 2018, sections 3.2 and 3.3. https://arxiv.org/abs/1802.05365

    Args:
        num_tags: Number of tags; at least 1.
        dropout: Dropout rate of the mix and of the LSTM's features, in [0, 1).
        Other arguments: As of `elmo_classifier`.

    Returns:
        A model from `characters`, int32 `(batch, words, 50)`, to logits `(batch, words, num_tags)`.
    """
    inputs, _, x = _read(backbone, trainable, units, dropout)
    return keras.Model(inputs, _linear(x, num_tags, dropout), name="elmo_tagger")


def _words(characters):
    """Returns which words are not padding, `(batch, words)`."""
    return ops.any(characters > 0, axis=-1)


def _word_features(characters, size: ElmoSize, num_characters: int):
    """Computes the features of each word without context, `(batch, words, projection)`."""
    embedding = keras.layers.Embedding(num_characters, CHARACTER_DIM, name="character_embedding")
    x = embedding(characters)  # (batch, words, characters, 16)
    maxima = []
    for width, filters in size.filters:
        convolved = keras.layers.Conv2D(filters, (1, width), name=f"convolution{width}")(x)
        maxima.append(ops.relu(ops.max(convolved, axis=2)))  # (batch, words, filters)
    x = keras.layers.Concatenate(name="word")(maxima)
    for number in range(1, size.highways + 1):
        x = Highway(name=f"highway{number}")(x)
    return keras.layers.Dense(size.projection, name="projection")(x)


def _stack(x, mask, size: ElmoSize, dropout: float, direction: str) -> list[Any]:
    """Returns the layers of one direction, words first, `(batch, words, projection)` each."""
    outputs = [x]
    for number in range(1, LAYERS + 1):
        x = keras.layers.Dropout(dropout, name=f"{direction}{number}_dropout")(outputs[-1])
        y = keras.layers.RNN(
            # The code of Peters et al. clips carries and hidden states at 3.
            ProjectedLSTMCell(size.units, size.projection, clip=3.0, name=f"{direction}{number}"),
            return_sequences=True,
            go_backwards=direction == "backward",
            zero_output_for_mask=True,
            name=f"{direction}{number}",
        )(x, mask=mask)
        if direction == "backward":
            y = ops.flip(y, axis=1)
        outputs.append(y if number == 1 else x + y)
    return outputs


def _read(backbone: keras.Model, trainable: bool, units: int, dropout: float):
    """Returns the inputs, the mask of words, and the output of the bidirectional LSTM."""
    backbone.trainable = trainable
    if not trainable:
        # In training, a model passes `training=True` to all its layers and ignores their arguments.
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
    characters = keras.Input((None, WORD_LENGTH), dtype="int32", name="characters")
    mask = _words(characters)
    x = ScalarMix(name="mix")(backbone(characters))
    x = keras.layers.Dropout(dropout, name="mix_dropout")(x)
    lstm = keras.layers.LSTM(units, return_sequences=True, name="lstm")
    x = keras.layers.Bidirectional(lstm, name="bidirectional_lstm")(x, mask=mask)
    return {"characters": characters}, mask, x


def _linear(x, units: int, dropout: float):
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.layers.Dense(units, dtype="float32", name="logits")(x)
