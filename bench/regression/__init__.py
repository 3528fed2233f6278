"""What must not get worse unseen: costs against a lock, exactly, and speed against a commit, beyond the noise.

Costs are counted here; speeds are measured by `vared-bench speed`, run as a process in each tree. It knows no method by
name: what is registered and what the published tables name is locked, and a profile names what is timed.
"""
