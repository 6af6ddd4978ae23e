"""The CPU backend: OpenCV reads, ONNX Runtime infers. Same file names and functions as every backend."""

import os

# OpenCV reads these when it is loaded; our own errors say what happened, in one line
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
