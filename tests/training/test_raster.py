"""The rasteriser: what is nearest is seen, weights interpolate, cut-outs and back sides are left out."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="training's extra is not installed: pip install -e .[train]")

from training.render import raster

# counter-clockwise seen by the viewer: on the screen, where y grows downward, left-bottom, right-bottom, top
TRIANGLE = np.float32([[0, 8, 5], [8, 8, 5], [0, 0, 5]])
ONE = np.int32([[0, 1, 2]])


def drawn(screen, faces, both_sides=True, size=8):
    depth, index, weights = raster.buffers(size, size)
    raster.draw(screen, faces, 0, both_sides, depth, index, weights)
    return depth, index, weights


def test_a_pixel_belongs_to_a_triangle_when_its_middle_does():
    _, index, _ = drawn(TRIANGLE, ONE)
    inside = np.array([[x + 0.5 <= y + 0.5 for x in range(8)] for y in range(8)])
    assert np.array_equal(index == 0, inside)


def test_weights_interpolate_what_the_corners_have():
    _, index, weights = drawn(TRIANGLE, ONE)
    out = np.zeros((8, 8, 2), np.float32)
    raster.interpolate(index, weights, ONE, np.ascontiguousarray(TRIANGLE[:, :2]), out)
    y, x = np.nonzero(index == 0)
    assert np.allclose(out[y, x], np.stack([x, y], 1) + 0.5, atol=1e-5)


def test_the_nearer_triangle_is_seen_in_whatever_order():
    far = TRIANGLE + np.float32([0, 0, 3])
    both = np.concatenate([far, TRIANGLE])
    for faces in (np.int32([[0, 1, 2], [3, 4, 5]]), np.int32([[3, 4, 5], [0, 1, 2]])):
        depth, index, _ = drawn(both, faces)
        assert np.unique(depth[index >= 0]).tolist() == [5]


def test_back_sides_are_left_out_unless_wanted():
    turned = np.int32([[0, 2, 1]])
    assert (drawn(TRIANGLE, ONE, False)[1] == 0).any()
    assert (drawn(TRIANGLE, turned, False)[1] == -1).all()
    assert (drawn(TRIANGLE, turned, True)[1] == 0).any()


def test_triangles_beyond_the_picture_and_without_area_draw_nothing_there():
    assert (drawn(TRIANGLE + np.float32([20, 0, 0]), ONE)[1] == -1).all()
    flat = np.float32([[0, 0, 1], [4, 4, 1], [8, 8, 1]])
    assert (drawn(flat, ONE)[1] == -1).all()


def test_a_cut_out_shows_only_where_its_texture_is_opaque():
    alpha = np.zeros((2, 2), np.uint8)
    alpha[:, 0] = 255  # the left half
    texture = np.float32([[0, 1], [1, 1], [0, 0]])
    depth, index, weights = raster.buffers(8, 8)
    raster.draw_cut_out(TRIANGLE, ONE, texture, alpha, 100, 7, depth, index, weights)
    assert (index[:, :4][np.tril_indices(8, 0, 4)] == 7).all()
    assert (index[:, 4:] == -1).all()


def test_normals_point_outward_and_have_length_one():
    corners = np.float32([[0, 0, 0], [2, 0, 0], [0, 2, 0]])
    assert np.allclose(raster.vertex_normals(corners, ONE), [[0, 0, 1]] * 3)
