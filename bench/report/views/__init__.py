"""What the templates ask of what was read: pure functions of joined tables, claims, blocks and timings.

They choose and put together; they read no file, compute no figure and write no markup.
"""
