"""Landmark regions, mirroring and the five keypoints."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import ROOT

from edgeface.point_sets import NAMED, five_points, flip_map, groups


@pytest.mark.parametrize("count", NAMED)
def test_the_flip_map_is_a_permutation_and_an_involution(count: int) -> None:
    flip = flip_map(count)
    assert sorted(flip.tolist()) == list(range(count))
    assert (flip[flip] == np.arange(count)).all()


@pytest.mark.parametrize("count", NAMED)
def test_every_point_is_in_one_group_which_mirrors_into_itself(count: int) -> None:
    regions = groups(count)
    assert sorted(np.concatenate(list(regions.values())).tolist()) == list(range(count))
    for name, indices in regions.items():
        assert sorted(flip_map(count)[indices].tolist()) == indices.tolist(), name


def test_other_numbers_of_points_have_no_groups() -> None:
    assert groups(5) == {}
    with pytest.raises(KeyError, match="no flip map for 98 points"):
        flip_map(98)


def demo_faces() -> list[dict[str, list[list[float]]]]:
    frames = json.loads((ROOT / "edgeface" / "demo" / "demo.json").read_text())["frames"]
    return [face for frame in frames[::10] for face in frame]


def test_the_five_points_are_those_of_the_demo_clips_truth() -> None:
    faces = demo_faces()
    landmarks = np.array([face["landmarks"] for face in faces], np.float32)
    truth = np.array([face["keypoints"] for face in faces])
    eyes = np.linalg.norm(truth[:, 0] - truth[:, 1], axis=1)
    error = np.linalg.norm(five_points(landmarks) - truth, axis=2) / eyes[:, None]
    assert np.median(error) < 0.05
    assert five_points(landmarks[:0]).shape == (0, 5, 2)


def test_a_mirrored_face_keeps_its_meaning() -> None:
    landmarks = np.array([face["landmarks"] for face in demo_faces()], np.float32)
    mirrored = (landmarks * [-1, 1])[:, flip_map(68)].astype(np.float32)
    straight = five_points(landmarks)[:, [1, 0, 2, 4, 3]] * [-1, 1]
    np.testing.assert_allclose(five_points(mirrored), straight, rtol=1e-5)
