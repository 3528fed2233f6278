"""What VA-RED² is compared with: static networks and, beside them, other adaptive methods.

Everything here is built on `bench` and registered below; it may not import `vared`.
The tuples are literals, so that listing names imports nothing else.
"""

NETWORKS = (
    "baselines.networks.corrnet:corrnet",
    "baselines.networks.corrnet:corrnet_26",
    "baselines.networks.corrnet:corrnet_50",
    "baselines.networks.detector:detector_i3d",
    "baselines.networks.detector:detector_x3d_m",
    "baselines.networks.i3d:i3d",
    "baselines.networks.mobilenet:mobilenet_v2",
    "baselines.networks.r2plus1d:r2plus1d_18",
    "baselines.networks.r2plus1d:r2plus1d_18_torchvision",
    "baselines.networks.r2plus1d_bottleneck:r2plus1d_26",
    "baselines.networks.r2plus1d_bottleneck:r2plus1d_50",
    "baselines.networks.resnet:resnet18",
    "baselines.networks.resnet:resnet34",
    "baselines.networks.resnet:resnet50",
    "baselines.networks.segmenter:resnet18_dilated",
    "baselines.networks.slowonly:slowonly_r50",
    "baselines.networks.tpn:tpn",
    "baselines.networks.tpn:tpn_r50",
    "baselines.networks.tsm:tsm_mobilenet_v2",
    "baselines.networks.tsm:tsm_resnet18",
    "baselines.networks.tsm:tsm_resnet50",
    "baselines.networks.x3d:x3d_xs",
    "baselines.networks.x3d:x3d_s",
    "baselines.networks.x3d:x3d_m",
    "baselines.networks.x3d:x3d_l",
)
METHODS = (
    "baselines.adafocus.v1:adafocus_v1",
    "baselines.adafocus.v2:adafocus_v2",
    "baselines.adafocus.uni:uni_adafocus",
    "baselines.arnet.method:arnet",
    "baselines.cgnet.method:cgnet",
    "baselines.faster.method:faster",
    "baselines.pruning.method:pruned",
    "baselines.subsampled:subsampled",
)
WEIGHTS = (
    "baselines.weights.networks:i3d",
    "baselines.weights.networks:mobilenet_v2",
    "baselines.weights.networks:r2plus1d_18_torchvision",
    "baselines.weights.networks:resnet18",
    "baselines.weights.networks:resnet34",
    "baselines.weights.networks:resnet50",
    "baselines.weights.networks:slowonly_r50",
    "baselines.weights.networks:tsm_mobilenet_v2",
    "baselines.weights.networks:tsm_resnet18",
    "baselines.weights.networks:tsm_resnet50",
    "baselines.weights.networks:x3d_xs",
    "baselines.weights.networks:x3d_s",
    "baselines.weights.networks:x3d_m",
    "baselines.weights.networks:x3d_l",
)
