"""The posteriors by their names in posteriordb, each made when it is asked for."""

from collections.abc import Callable

from .autoregression import ar
from .base import Posterior
from .eight_schools import schools_centered, schools_noncentered
from .gaussian_process import gp
from .mixture import gauss_mix
from .regressions import diamonds, earnings, kidiq, mesquite

TABLE: dict[str, Callable[[], Posterior]] = {
    "eight_schools-eight_schools_noncentered": schools_noncentered,
    "eight_schools-eight_schools_centered": schools_centered,
    "earnings-logearn_height": earnings,
    "kidiq-kidscore_momiq": kidiq,
    "mesquite-logmesquite": mesquite,
    "arK-arK": ar,
    "low_dim_gauss_mix-low_dim_gauss_mix": gauss_mix,
    "gp_pois_regr-gp_regr": gp,
    "diamonds-diamonds": diamonds,
}
