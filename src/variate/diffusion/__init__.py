"""Draws of diffusion and flow models: processes, denoisers, solvers, schedules, and the loop that runs them."""

from .denoisers import AnglePrediction as AnglePrediction
from .denoisers import DataPrediction as DataPrediction
from .denoisers import Denoiser as Denoiser
from .denoisers import GaussianMixture as GaussianMixture
from .denoisers import NoisePrediction as NoisePrediction
from .denoisers import Prediction as Prediction
from .denoisers import ScorePrediction as ScorePrediction
from .denoisers import VelocityPrediction as VelocityPrediction
from .processes import EDM as EDM
from .processes import Flow as Flow
from .processes import Level as Level
from .processes import Process as Process
from .processes import VariancePreserving as VariancePreserving
from .sampling import Samples as Samples
from .sampling import sample as sample
from .schedules import edm as edm
from .schedules import uniform as uniform
from .schedules import uniform_log_snr as uniform_log_snr
from .solvers import DDIM as DDIM
from .solvers import Ancestral as Ancestral
from .solvers import DPMSolver as DPMSolver
from .solvers import DPMSolverPP as DPMSolverPP
from .solvers import DPMSolverPPSinglestep as DPMSolverPPSinglestep
from .solvers import Euler as Euler
from .solvers import Heun as Heun
from .solvers import Solver as Solver
