"""The room of weight pruning: what is cut, what that leaves of the cost, and a network's smaller form that really runs.

It knows networks only as modules of convolutions, normalisations and linear layers, none by name. It may not touch the
networks' own files.
"""
