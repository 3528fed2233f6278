"""The room where multiply-adds are counted: formulas, the strict counter, and other counters beside it.

It sees what the dispatcher runs and knows no method, network or table. An operation it does not know is an error.
It may not touch decisions, timing or records.
"""

from bench.cost.agreement import Agreement, agreement, both_conventions
from bench.cost.counter import Count, Counter, CountError, UncountedError, count, count_meta, counting, samples
from bench.cost.formulas import FORMULAS, ZERO_COST, Formula, register_formula

__all__ = [
    "FORMULAS",
    "ZERO_COST",
    "Agreement",
    "Count",
    "CountError",
    "Counter",
    "Formula",
    "UncountedError",
    "agreement",
    "both_conventions",
    "count",
    "count_meta",
    "counting",
    "register_formula",
    "samples",
]
