"""Keras layers that are missing in Keras, or slower or less exact there."""

from layers.anchors import Anchors
from layers.attention_decoder import AttentionDecoder
from layers.attention_pooling import AttentionPooling
from layers.batch_normalization import BatchNormalization
from layers.class_token import ClassToken
from layers.graph_convolution import GraphConvolution
from layers.group_normalization import GroupNormalization
from layers.highway import Highway
from layers.kernel_noise import DropConnect, WeightNoise
from layers.layer_normalization_cells import (
    LayerNormalizationGRUCell,
    LayerNormalizationLSTMCell,
    LayerNormalizationSimpleRNNCell,
)
from layers.local_response_normalization import LocalResponseNormalization
from layers.lp_pooling import LpPooling2D
from layers.mixed_pooling import MixedPooling2D
from layers.non_max_suppression import NonMaxSuppression
from layers.patch_embedding import PatchEmbedding
from layers.projected_lstm_cell import ProjectedLSTMCell
from layers.reward_head import RewardHead
from layers.roi_align import PyramidROIAlign, ROIAlign
from layers.roi_pooling import ROIPooling
from layers.scalar_mix import ScalarMix
from layers.spectral_pooling import SpectralPooling2D
from layers.stochastic_pooling import StochasticPooling2D
from layers.whitening import Whitening

__all__ = [
    "Anchors",
    "AttentionDecoder",
    "AttentionPooling",
    "BatchNormalization",
    "ClassToken",
    "DropConnect",
    "GraphConvolution",
    "GroupNormalization",
    "Highway",
    "LayerNormalizationGRUCell",
    "LayerNormalizationLSTMCell",
    "LayerNormalizationSimpleRNNCell",
    "LocalResponseNormalization",
    "LpPooling2D",
    "MixedPooling2D",
    "NonMaxSuppression",
    "PatchEmbedding",
    "ProjectedLSTMCell",
    "PyramidROIAlign",
    "ROIAlign",
    "ROIPooling",
    "RewardHead",
    "ScalarMix",
    "SpectralPooling2D",
    "StochasticPooling2D",
    "WeightNoise",
    "Whitening",
]
