"""Keras layers that Keras lacks or does worse."""

from layers.class_token import ClassToken
from layers.group_normalization import GroupNormalization
from layers.kernel_noise import DropConnect, WeightNoise
from layers.local_response_normalization import LocalResponseNormalization
from layers.patch_embedding import PatchEmbedding
from layers.whitening import Whitening

__all__ = [
    "ClassToken",
    "DropConnect",
    "GroupNormalization",
    "LocalResponseNormalization",
    "PatchEmbedding",
    "WeightNoise",
    "Whitening",
]
