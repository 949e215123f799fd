"""Denoisers: functions of yours, closed forms, and what is made of others."""

from .base import Denoiser as Denoiser
from .base import Prediction as Prediction
from .gaussian_mixture import GaussianMixture as GaussianMixture
from .predictions import AnglePrediction as AnglePrediction
from .predictions import DataPrediction as DataPrediction
from .predictions import NoisePrediction as NoisePrediction
from .predictions import ScorePrediction as ScorePrediction
from .predictions import VelocityPrediction as VelocityPrediction
from .rescaled import Rescaled as Rescaled
