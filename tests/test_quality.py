"""Quality of a face's picture: blur against its definition and against added blur, light, and the box."""

from __future__ import annotations

import warnings
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeface.quality import Quality, blur, quality
from edgeface.values import F32

FRAME = 640, 360
SIGMAS = 0, 0.6, 1, 1.5, 2, 3


def crops() -> F32:
    """Rendered faces [6, 80, 80] as the landmark network sees them."""
    faces: F32 = np.load(ROOT / "tests" / "golden" / "poses.npz")["crops"].astype(np.float32)
    return faces


def rate(grey: Any, boxes: Any = None) -> Quality:
    n = len(grey)
    xyxy = np.tile(np.array([0, 0, 80, 80]), (n, 1)) if boxes is None else np.array(boxes)
    scores = np.full((n, 68), 0.25, np.float32)
    return quality(xyxy.astype(np.float32), FRAME, grey, scores, np.arange(n, dtype=np.float32))


def moved(crop: F32, length: float, slant_deg: float) -> F32:
    """Motion blur: the mean of the crop shifted along a line."""
    steps = np.linspace(-length / 2, length / 2, 41)
    x, y = np.cos(np.radians(slant_deg)), np.sin(np.radians(slant_deg))
    shifts = [np.array([[1, 0, x * step], [0, 1, y * step]]) for step in steps]
    return np.mean([cv2.warpAffine(crop, by, crop.shape, borderMode=cv2.BORDER_REPLICATE) for by in shifts], axis=0)


def rises(values: list[F32]) -> bool:
    return bool((np.diff(np.array(values), axis=0) > 0).all())


def test_blur_rises_with_a_gaussian_on_every_face() -> None:
    faces = crops()
    blurs = [
        rate(np.array([cv2.GaussianBlur(face, (0, 0), sigma) if sigma else face for face in faces])).blur
        for sigma in SIGMAS
    ]
    assert rises(blurs)
    assert (blurs[-1] - blurs[0] > 0.2).all()


@pytest.mark.parametrize("slant_deg", [0, 30, 90])
def test_blur_rises_with_motion_on_every_face(slant_deg: float) -> None:
    blurs = [rate(np.array([moved(face, length, slant_deg) for face in crops()])).blur for length in (0, 3, 6, 9)]
    assert rises(blurs)


@given(st.floats(0.3, 1), st.floats(0, 60))
def test_light_and_contrast_do_not_change_blur(contrast: float, brightness: float) -> None:
    faces = crops()
    changed = (faces * contrast + brightness * (1 - contrast)).astype(np.float32)
    np.testing.assert_allclose(rate(changed).blur, rate(faces).blur, atol=1e-3)


def crete(picture: Any) -> float:
    """The measure step by step, as the paper has it: by filtering, along each axis."""
    axes = []
    for along in (picture, picture.T):
        again = np.apply_along_axis(lambda line: np.convolve(line, np.full(9, 1 / 9), "valid"), 0, along)
        before, after = np.abs(np.diff(along[4:-4], axis=0)), np.abs(np.diff(again, axis=0))
        lost = np.maximum(before - after, 0).sum()
        axes.append((before.sum() - lost) / before.sum())
    return float(np.nanmax(axes))


@given(arrays(np.float32, (1, 20, 24), elements=st.floats(0, 255, width=16)).filter(lambda a: np.ptp(a) > 1))
def test_blur_is_cretes_measure(pictures: F32) -> None:
    value = blur(pictures)[0]
    assert 0 <= value <= 1
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing changes along either axis
        expected = crete(pictures[0].astype(np.float64))
    assert value == pytest.approx(1 if np.isnan(expected) else expected, abs=1e-3)


def test_a_blank_picture_is_blurred_and_an_edge_is_not() -> None:
    edges = np.full((3, 40, 40), 90, np.float32)
    edges[1, 20:, 20:] = 200
    edges[2, :, 20:] = 200
    np.testing.assert_allclose(blur(edges), [1, 1 / 9, 1 / 9], atol=1e-3)
    assert blur(edges[1:, 16:25, 16:25]).tolist() == [1, 1]


def test_one_face_does_not_change_anothers_blur() -> None:
    faces = crops()
    np.testing.assert_allclose([rate(face[None]).blur[0] for face in faces], rate(faces).blur, rtol=1e-5)


def test_brightness_and_clipping_look_at_the_middle_of_the_crop() -> None:
    grey = np.full((4, 80, 80), 102, np.float32)
    grey[1] = 255
    grey[2, :, :40] = 0
    grey[3, :15] = grey[3, 65:] = 255  # the margin
    found = rate(grey)
    np.testing.assert_allclose(found.brightness, [0.4, 1, 0.2, 0.4], atol=1e-6)
    np.testing.assert_allclose(found.clipped, [0, 1, 0.5, 0], atol=1e-6)


def test_boxes_have_a_size_and_a_share_outside_the_frame() -> None:
    boxes = [[10, 10, 110, 50], [-30, 0, 10, 40], [600, 320, 680, 400], [700, 10, 720, 30], [5, 5, 5, 5]]
    found = rate(np.zeros((5, 80, 80), np.float32), boxes)
    np.testing.assert_allclose(found.size_px, [np.sqrt(4000), 40, 80, 20, 0], rtol=1e-6)
    np.testing.assert_allclose(found.outside, [0, 0.75, 0.75, 1, 1], atol=1e-6)


def test_score_and_yaw_pass_through_and_all_is_float32() -> None:
    found = rate(crops())
    np.testing.assert_allclose(found.landmark_score, 0.25)
    np.testing.assert_allclose(found.yaw, np.arange(6))
    for name in Quality.__slots__:
        assert getattr(found, name).dtype == np.float32, name
        assert getattr(rate(crops()[:0]), name).shape == (0,), name
