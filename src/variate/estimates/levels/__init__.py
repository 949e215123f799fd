"""Expectations of what can only be approached: programs at levels of accuracy, each coupled with the one below."""

from .debiased import debiased as debiased
from .multilevel import Multilevel as Multilevel
from .multilevel import multilevel as multilevel
