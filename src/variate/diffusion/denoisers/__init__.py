"""Denoisers: functions of yours, closed forms, and what is made of others."""

from .augmented import Augmented as Augmented
from .base import Denoiser as Denoiser
from .base import ExactDenoiser as ExactDenoiser
from .base import Prediction as Prediction
from .check import check_denoiser as check_denoiser
from .compositions import Mixture as Mixture
from .compositions import Product as Product
from .data_set import DataSet as DataSet
from .epsilon_scaling import EpsilonScaling as EpsilonScaling
from .gaussian_mixture import GaussianMixture as GaussianMixture
from .guidance import ClassifierFreeGuidance as ClassifierFreeGuidance
from .guidance import ClassifierGuidance as ClassifierGuidance
from .predictions import AnglePrediction as AnglePrediction
from .predictions import DataPrediction as DataPrediction
from .predictions import NoisePrediction as NoisePrediction
from .predictions import ScorePrediction as ScorePrediction
from .predictions import VelocityPrediction as VelocityPrediction
from .rescaled import Rescaled as Rescaled
from .shared_variance import NoiseAndShare as NoiseAndShare
from .stitched import Stitched as Stitched
from .thresholds import DynamicThreshold as DynamicThreshold
from .thresholds import StaticThreshold as StaticThreshold
from .time_shifted import TimeShifted as TimeShifted
from .torch import TorchFunction as TorchFunction
