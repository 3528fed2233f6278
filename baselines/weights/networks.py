"""Whose weights can be imported: for each network, named as the network is, the layouts that give its output."""

from __future__ import annotations

from functools import partial

from baselines.weights import layouts
from baselines.weights.importer import import_weights

RESNET = (layouts.TORCHVISION_RESNET, layouts.TSN_RESNET)
X3D = (layouts.PYTORCHVIDEO_X3D,)

i3d = partial(import_weights, "i3d", (layouts.IBM_I3D, layouts.PIERGIAJ_I3D))
mobilenet_v2 = partial(import_weights, "mobilenet_v2", (layouts.TORCHVISION_MOBILENET, layouts.TSN_MOBILENET))
r2plus1d_18_torchvision = partial(import_weights, "r2plus1d_18_torchvision", (layouts.TORCHVISION_R2PLUS1D,))
resnet18 = partial(import_weights, "resnet18", RESNET)
resnet34 = partial(import_weights, "resnet34", RESNET)
resnet50 = partial(import_weights, "resnet50", RESNET)
slowonly_r50 = partial(import_weights, "slowonly_r50", (layouts.PYTORCHVIDEO_SLOW,))
tsm_mobilenet_v2 = partial(import_weights, "tsm_mobilenet_v2", (layouts.TSM_MOBILENET,))
tsm_resnet18 = partial(import_weights, "tsm_resnet18", (layouts.TSM_RESNET,))
tsm_resnet50 = partial(import_weights, "tsm_resnet50", (layouts.TSM_RESNET,))
x3d_xs = partial(import_weights, "x3d_xs", X3D)
x3d_s = partial(import_weights, "x3d_s", X3D)
x3d_m = partial(import_weights, "x3d_m", X3D)
x3d_l = partial(import_weights, "x3d_l", X3D)
