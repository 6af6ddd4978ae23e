"""The GPU backend: its kernels, compiled; nothing loads them yet."""
