"""Intervals that hold for any number of draws, because the draws have bounds."""

from .base import Ends as Ends
from .base import Interval as Interval
from .betting import Betting as Betting
from .clopper_pearson import ClopperPearson as ClopperPearson
from .empirical_bernstein import EmpiricalBernstein as EmpiricalBernstein
from .hoeffding import Hoeffding as Hoeffding
