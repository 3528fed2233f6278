"""CGNet: channel gating, on any network. Gates here; what is a method, its loss and its calibration, beside them.

It is built on `bench` alone and knows no network by name.
"""
