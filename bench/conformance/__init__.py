"""What every method must keep to, the ones of others included: each broken promise as one line.

`check` is for evaluation, `check_training` for training. What they cannot know: a too low cost of a method that says it
is not `exact` (its executed cost is only known to lie between the accounted and the dense one), a wrong formula of its
own operation, work of other processes, on integers outside torch and on values taken out one by one, and whether a
skipped part would have made a better answer.
"""

from bench.conformance.evaluation import check
from bench.conformance.lines import Broken
from bench.conformance.training import check_training

__all__ = ["Broken", "check", "check_training"]
