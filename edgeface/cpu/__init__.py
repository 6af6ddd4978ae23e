"""The CPU backend: OpenCV reads, ONNX Runtime infers. Same file names and functions as every backend."""
