"""The GPU backend: PyCUDA for memory and kernels, TensorRT for networks, jetson-utils for cameras."""
