"""Keras layers that Keras lacks or does worse."""

from layers.batch_normalization import BatchNormalization
from layers.class_token import ClassToken
from layers.group_normalization import GroupNormalization
from layers.kernel_noise import DropConnect, WeightNoise
from layers.local_response_normalization import LocalResponseNormalization
from layers.lp_pooling import LpPooling2D
from layers.mixed_pooling import MixedPooling2D
from layers.patch_embedding import PatchEmbedding
from layers.spectral_pooling import SpectralPooling2D
from layers.stochastic_pooling import StochasticPooling2D
from layers.whitening import Whitening

__all__ = [
    "BatchNormalization",
    "ClassToken",
    "DropConnect",
    "GroupNormalization",
    "LocalResponseNormalization",
    "LpPooling2D",
    "MixedPooling2D",
    "PatchEmbedding",
    "SpectralPooling2D",
    "StochasticPooling2D",
    "WeightNoise",
    "Whitening",
]
