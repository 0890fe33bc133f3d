"""Keras callbacks that Keras lacks or does worse."""

from callbacks.best_weights import BestWeights
from callbacks.dead_units import DeadUnits
from callbacks.early_stopping import EarlyStopping
from callbacks.export_best import ExportBest
from callbacks.feature_visualization import FeatureVisualization
from callbacks.gradient_norm import GradientNorm
from callbacks.policy_guard import PolicyGuard
from callbacks.progress import Progress
from callbacks.saturation import Saturation
from callbacks.tensorboard import TensorBoardLogs
from callbacks.throughput import Throughput

__all__ = [
    "BestWeights",
    "DeadUnits",
    "EarlyStopping",
    "ExportBest",
    "FeatureVisualization",
    "GradientNorm",
    "PolicyGuard",
    "Progress",
    "Saturation",
    "TensorBoardLogs",
    "Throughput",
]
