"""AR-Net: a policy network chooses, frame by frame, the network and resolution that look at it, or skips frames.

It is a method of the harness, built on `baselines.networks`; nothing else of `baselines` may depend on it.
"""
