"""Walks on the nodes of a graph, from each to one of its neighbours."""

from .graph import Graph as Graph
from .self_repellent import SelfRepellent as SelfRepellent
