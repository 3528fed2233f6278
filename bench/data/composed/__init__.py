"""Actions composed at known places, sizes and times onto a larger canvas, so that boxes and classes are exact.

In every video one actor acts in a part of the picture for a part of the time, among distractors that are as large, as
bright and as fast: patches of noise, and pictures put together from pieces of others. Actors are the digits of
`bench.data.digits`, whose class is the digit and the direction it moves in, or real clips from the data root, whose
class is theirs. A row is a key frame, grey: its video is the clip that ends there, its box the rectangle that the actor
fills. A stated share of the rows has no box: the action is over, perhaps within the clip; the distractors are not.

Pictures are pasted at whole pixels. Where and when depends on the seed, the split's name and the row alone.
"""
