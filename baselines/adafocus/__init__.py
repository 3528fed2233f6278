"""The AdaFocus family: a cheap glance at every frame says where a costly network looks closely, and for how long.

Extractors, cropping, exits and prefix classifiers are shared; each version of the method is a file of its own.
It builds on `baselines.networks` and `bench`, and may import no other method.
"""
