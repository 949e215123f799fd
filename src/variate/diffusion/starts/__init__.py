"""Starts that skip the first part of a run: what is known without a model of how noise comes to lie."""

from .teleported import teleported as teleported
from .transport import Transport as Transport
from .transport import fit_transport as fit_transport
