"""A row of a table under a profile: its identity, its run folder, and how it gets from nothing to a record.

`results`/records holds what is finished and is never run again; `results`/runs/<id> holds checkpoint, log and lock of
what is under way. Several processes may work on one folder: each takes what no other holds.
"""
