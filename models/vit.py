"""The Vision Transformer."""

from functools import partial
from typing import NamedTuple

import keras

from layers import ClassToken, PatchEmbedding
from models.parts import require_input


class ViTSize(NamedTuple):
    """Features of a token, encoder blocks, attention heads; the MLP is four times as wide."""

    dim: int
    blocks: int
    num_heads: int


VIT_SIZES = {
    "tiny": ViTSize(192, 12, 3),
    "small": ViTSize(384, 12, 6),
    "base": ViTSize(768, 12, 12),
    "large": ViTSize(1024, 24, 16),
}
"""Dosovitskiy et al. (2021), table 1; tiny and small: Touvron et al. (2021), table 1."""

# One per layer, because an initializer draws the same numbers each time.
_initializer = partial(keras.initializers.TruncatedNormal, stddev=0.02)


def vit(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    size: str = "base",
    patch_size: int = 16,
    dropout: float = 0.1,
) -> keras.Model:
    """Builds a Vision Transformer that classifies by its class token.

    Each block computes `x + attention(norm(x))`, then `x + mlp(norm(x))`. The weights of the blocks
    are initialized by a truncated normal distribution with deviation 0.02, as in Touvron et al.

    Reference:
        Dosovitskiy et al., An Image is Worth 16x16 Words, 2021, equations 1 to 4.
        https://arxiv.org/abs/2010.11929
        Touvron et al., Training Data-efficient Image Transformers, 2021.
        https://arxiv.org/abs/2012.12877

    Args:
        input_shape: Height, width (multiples of `patch_size`) and channels of an image.
        num_classes: Number of classes; at least 1.
        size: `tiny`, `small`, `base` or `large`.
        patch_size: Side of a patch in pixels; at least 1.
        dropout: Dropout rate of the tokens' features and of the outputs of each block, in [0, 1);
            0.1 on ImageNet in Dosovitskiy et al., table 3.

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    if size not in VIT_SIZES:
        raise ValueError(f"`size` must be one of {', '.join(VIT_SIZES)}. Received: size={size!r}")
    require_input(input_shape, patch_size)
    import keras_hub  # It takes a second to load, and no other network needs it.

    chosen = VIT_SIZES[size]
    images = keras.Input(input_shape, name="images")
    x = PatchEmbedding(patch_size, chosen.dim, name="patches")(images)  # (batch, patches, dim)
    x = ClassToken(name="class_token")(x)  # (batch, 1 + patches, dim)
    positions = keras_hub.layers.PositionEmbedding(
        x.shape[1], initializer=_initializer(), name="positions"
    )
    x = keras.layers.Add(name="embedded")([x, positions(x)])
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    for block in range(1, chosen.blocks + 1):
        x = _encoder_block(x, chosen, dropout, f"block{block}")
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    logits = keras.layers.Dense(
        num_classes, kernel_initializer=_initializer(), dtype="float32", name="logits"
    )(x[:, 0])
    return keras.Model(images, logits, name=f"vit_{size}{patch_size}")


def _encoder_block(x, size: ViTSize, dropout: float, name: str):
    attended = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    attended = keras.layers.MultiHeadAttention(
        size.num_heads,
        size.dim // size.num_heads,
        kernel_initializer=_initializer(),
        name=f"{name}_attention",
    )(attended, attended)
    attended = keras.layers.Dropout(dropout, name=f"{name}_dropout1")(attended)
    x = keras.layers.Add(name=f"{name}_add1")([x, attended])
    mixed = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    for number, (units, activation) in enumerate(((4 * size.dim, "gelu"), (size.dim, None)), 1):
        mixed = keras.layers.Dense(
            units, activation, kernel_initializer=_initializer(), name=f"{name}_mlp{number}"
        )(mixed)
        mixed = keras.layers.Dropout(dropout, name=f"{name}_mlp{number}_dropout")(mixed)
    return keras.layers.Add(name=f"{name}_add2")([x, mixed])
