"""Pairs of chains that meet: means without bias, and how far a chain still is from its target."""

from .pairs import Coupled as Coupled
from .pairs import unbiased as unbiased
from .reflection import Reflected as Reflected
from .reflection import Sometimes as Sometimes
