"""Benchmarks. What they start runs from Python's bytecode, as where pip has installed it: to compile our own modules anew takes a
quarter of a second, in which no user waits.
"""

import os

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
