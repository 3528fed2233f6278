"""What trained networks do inside: redundancy of feature maps, decisions by class, dearest and cheapest clips.

`settings`, `store`, `policy` and `png` are about what is stored and never import torch; the rest runs a network.
Knows networks only as modules with convolutions, and reduced ones by the units that their `details()` state.
"""
