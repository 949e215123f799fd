"""Training denoisers: losses, and the pairs that they are taken over."""

from .coupling import coupled as coupled
from .losses import data as data
from .losses import denoising_loss as denoising_loss
from .losses import noise as noise
from .losses import sliced_score_loss as sliced_score_loss
from .losses import velocity as velocity
from .variances import variance_loss as variance_loss
