"""FASTER (Zhu et al., "FASTER Recurrent Networks for Efficient Video Classification", AAAI 2020).

A video is a sequence of clips. An expensive network reads few of them, a cheap one the others, by a fixed pattern; an
aggregator makes one answer of their last feature maps. No code of the authors is public: what their description leaves
open (FAST-GRU's candidate and first state, rates and shares of the two stages) is stated where it is chosen.
"""
