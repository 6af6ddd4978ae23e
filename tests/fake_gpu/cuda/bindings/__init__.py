"""cuda-bindings' names, on the software GPU."""

__version__ = "12.9.4"
