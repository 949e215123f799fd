"""Which version this is: of another one checkpoints are not gone on from."""

__version__ = "0.1.0"
