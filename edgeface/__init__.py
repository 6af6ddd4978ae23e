"""edgeface: find faces on a camera's frames, follow them, publish them on a ZeroMQ bus."""

__version__ = "0.1.0"
