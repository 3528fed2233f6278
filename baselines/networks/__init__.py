"""The static networks, one family a file, each tested against published parameter and multiply-add counts.

A builder takes frames, size and classes, and its own options by name, and returns a plain `nn.Module`.
They are written here from scratch: neither torchvision, timm nor PyTorchVideo may be imported.
"""
