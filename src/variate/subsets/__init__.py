"""Subsets: random sets, orders and masks, with their probabilities."""

from variate.subsets.conditional_poisson import ConditionalPoisson as ConditionalPoisson
from variate.subsets.masks import NMMask as NMMask
from variate.subsets.permutation_matrix import PermutationMatrix as PermutationMatrix
from variate.subsets.plackett_luce import PlackettLuce as PlackettLuce
from variate.subsets.top_k import TopK as TopK
