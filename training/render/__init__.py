"""Makes pictures of faces that never were, with exact labels."""

import os

# before NumPy is imported: threads halve the speed of several processes
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
