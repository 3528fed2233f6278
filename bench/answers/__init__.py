"""What commands answer with, and how it is printed: one kind of answer a file.

Called by `bench.cli` alone; decides nothing and stores nothing.
"""
