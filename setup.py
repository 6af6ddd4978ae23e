"""What the package is called, needs and contains."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "edgeface" / "__init__.py").read_text()).group(1)

setup(
    name="edgeface",
    version=VERSION,
    description="An edge runtime for faces: finds them on a camera's frames, follows them, publishes them over ZeroMQ",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.10",
    # the networks and their cards stand at top level in the repository and inside the package in a wheel
    packages=[
        "edgeface",
        "edgeface.build",
        "edgeface.cpu",
        "edgeface.cuda",
        "edgeface.evaluate",
        "edgeface.models",
        "edgeface.scenario",
        "edgeface.demo",
        "edgeface.engines",
    ],
    package_dir={"edgeface": "edgeface", "edgeface.engines": "engines"},
    package_data={
        "edgeface": ["py.typed"],
        "edgeface.cuda": ["crop.cu", "README.md", "kernels/*"],
        "edgeface.demo": ["demo.mp4", "demo.json", "golden.npz"],
        "edgeface.engines": ["*.toml", "*.md", "*.txt", "edgeface-*.onnx"],
    },
    exclude_package_data={"edgeface.engines": ["*.int8.onnx"]},  # what somebody has made in the checkout
    install_requires=[
        "numpy>=1.23",
        "pyzmq>=25",
        "msgpack>=1.0.5",
        "msgspec>=0.18.6",
        "lapx>=0.6",
        'tomli>=2; python_version < "3.11"',
    ],
    extras_require={
        "cpu": ["opencv-python>=4.8", "onnxruntime>=1.16"],
        # TensorRT and jetson-utils come with JetPack, not from PyPI
        "cuda": ["pycuda>=2024.1", "cuda-bindings>=12.8"],
        # for INT8, for FP16 from version 11 on, and to hold both against FP32
        "build": ["onnx>=1.15", "onnxconverter-common>=1.16", "onnxruntime>=1.16"],
        # make the networks that are shipped: training/README.md; besides "cpu"
        "train": [
            "torch>=2.4",
            "numba>=0.60",
            "opencv-python>=4.8",
            "onnx>=1.15",
            "onnxruntime>=1.16",
            "tensorboard>=2.15",
            "av>=12",  # training.clip
            "OpenEXR>=3.3",  # 3.3 is the first whose wheel reads channels as arrays
        ],
        "systemd": ["systemd-python>=235"],  # needs gcc, pkg-config, libsystemd-dev; without it see edgeface/service.py
        "dev": [
            "pytest>=8",
            "hypothesis>=6.100",
            "ruff>=0.11",
            "mypy>=1.15",
            "build>=1.2",
            "setuptools>=70.1",  # compile PyCUDA: scripts/gpu_stand_ins.py
            "onnx>=1.15",
            "av>=12",
            # compile the kernels: scripts/make_kernels.py
            'nvidia-cuda-nvrtc-cu11==11.8.89; sys_platform == "linux" and platform_machine == "x86_64"',
            'nvidia-cuda-nvrtc==13.0.88; sys_platform == "linux" and platform_machine == "x86_64"',
            # parse and build every network without a GPU: tests/test_build.py
            "onnxconverter-common>=1.16",
            'tensorrt-rtx-cu13-bindings==1.7.1.116; sys_platform == "linux" and platform_machine == "x86_64"',
            'tensorrt-rtx-cu13-libs==1.7.1.116; sys_platform == "linux" and platform_machine == "x86_64"',
        ],
    },
    entry_points={
        "console_scripts": ["edgeface = edgeface.cli:main", "edgeface-bench = edgeface.bench:main"],
    },
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
