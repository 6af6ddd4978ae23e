"""Trains the networks that edgeface ships, from rendered faces: see README.md in this folder."""

import os

for _library in ("OMP", "OPENBLAS", "MKL"):  # before NumPy: threads of their own halve the speed of several processes
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
