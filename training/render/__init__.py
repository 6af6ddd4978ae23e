"""Makes pictures of faces that never were, with exact labels."""

import os

for _library in (
    "OMP",
    "OPENBLAS",
    "MKL",
):  # before NumPy: threads halve the speed of several processes
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
