"""Expectations of what can only be approached: programs at levels of accuracy, each coupled with the one below."""

from .debiased import debiased as debiased
from .multifidelity import Multifidelity as Multifidelity
from .multifidelity import multifidelity as multifidelity
from .multilevel import Multilevel as Multilevel
from .multilevel import multilevel as multilevel
from .nested import Nested as Nested
from .nested import nested as nested
