"""What VA-RED² is compared with: static networks and, beside them, other adaptive methods.

Everything here is built on `bench` and registered below; it may not import `vared`.
The tuples are literals, so that listing names imports nothing else.
"""

NETWORKS = (
    "baselines.networks.r2plus1d:r2plus1d_18",
    "baselines.networks.r2plus1d:r2plus1d_18_torchvision",
)
METHODS: tuple[str, ...] = ()
