"""Public checkpoints of the networks in `baselines.networks`, brought into these networks' own names.

`layouts` are the key maps and nothing else, `importer` reads, checks and writes, `networks` says which go together.
"""
