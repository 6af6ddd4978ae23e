"""Which layers must stay in FP32: planted ones are found, in few runs."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edgeface.build.fallback import find_keep


class Form:
    """Passes with all of the `harmful` layers in FP32; counts how often it was asked."""

    def __init__(self, *harmful: str) -> None:
        self.harmful, self.asked = frozenset(harmful), 0

    def __call__(self, kept: frozenset[str]) -> bool:
        self.asked += 1
        return self.harmful <= kept


LAYERS = [f"conv{number}" for number in range(60)]


@given(st.integers(1, 80), st.data())
def test_one_or_two_harmful_layers_wherever_they_are(count: int, data: st.DataObject) -> None:
    layers = [f"conv{number}" for number in range(count)]
    harmful = data.draw(st.sets(st.sampled_from(layers), min_size=1, max_size=2))
    form = Form(*harmful)
    assert find_keep(layers, form) == harmful
    assert form.asked <= 4 * math.log2(count + 1) + 5  # doubling, halving, QuickXplain of one: 2 log2 n each, both ends


@given(st.sets(st.sampled_from(LAYERS), max_size=8), st.sets(st.sampled_from(LAYERS), max_size=4))
def test_no_layer_too_many(harmful: set[str], known: set[str]) -> None:
    layers = [name for name in LAYERS if name not in known]
    found = find_keep(layers, Form(*harmful), frozenset(known), most_runs=1000)
    assert found == harmful | known


def test_the_first_layers_are_found_at_once() -> None:
    form = Form("conv0", "conv1")
    assert find_keep(LAYERS, form) == {"conv0", "conv1"}
    assert form.asked <= 6


def test_what_passes_needs_nothing() -> None:
    form = Form()
    assert find_keep(LAYERS, form) == frozenset()
    assert form.asked == 2


def test_what_no_layer_mends() -> None:
    assert find_keep(LAYERS, Form("the input")) is None
    assert find_keep([], Form("the input")) is None


@given(st.integers(1, 40), st.sets(st.sampled_from(LAYERS), min_size=1))
def test_it_ends_after_so_many_runs_with_a_set_that_passes(most_runs: int, harmful: set[str]) -> None:
    form = Form(*harmful)
    found = find_keep(LAYERS, form, most_runs=most_runs)
    assert form.asked <= most_runs
    assert found is not None
    assert harmful <= found


@given(st.sets(st.frozensets(st.sampled_from(LAYERS[:5])), max_size=32))
def test_where_more_may_do_worse_what_is_found_passes_all_the_same(passing: set[frozenset[str]]) -> None:
    found = find_keep(LAYERS[:5], lambda kept: kept in passing)
    assert found is None or found in passing
