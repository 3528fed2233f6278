"""VA-RED², the method, and nothing else: dynamic convolution, gate, efficiency loss, and `reduce`.

It is built on `baselines` and `bench`, which know nothing of it; `reduce` works on any `nn.Module`.
The tuples are literals, so that listing names imports nothing else.
"""

NETWORKS: tuple[str, ...] = ()
METHODS = ("vared.method:vared",)
