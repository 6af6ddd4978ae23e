"""Which few layers must stay in FP32 for a form to pass: group testing, the most harmful layers first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Passes = Callable[[frozenset[str]], bool]  # does the form pass with these layers in FP32?


class _Enough(Exception):
    """So many questions were asked as may be."""


class _Questions:
    """Asks `passes`, no set twice, and remembers the smallest set that does."""

    def __init__(self, passes: Passes, most: int) -> None:
        self._passes, self._left = passes, most
        self._known: dict[frozenset[str], bool] = {}
        self.best: frozenset[str] | None = None

    def __call__(self, kept: frozenset[str]) -> bool:
        if kept not in self._known:
            if not self._left:
                raise _Enough
            self._left -= 1
            self._known[kept] = self._passes(kept)
            if self._known[kept] and (self.best is None or len(kept) < len(self.best)):
                self.best = kept
        return self._known[kept]


def find_keep(
    layers: Sequence[str], passes: Passes, known: frozenset[str] = frozenset(), *, most_runs: int = 60
) -> frozenset[str] | None:
    """A small set of `layers` that passes, together with those `known` to be needed; None: not even all of them do.

    `layers`: the most harmful first. `passes` is asked `most_runs` times at most; one or two harmful layers among n
    take some 4 log2 n. If more layers never do worse and there are runs enough, none of the set can be missed.

    The shortest beginning of the list that passes is found by doubling and halving; its last layer is needed. Of those
    before it the needed ones are found by QuickXplain (Junker 2004, AAAI).
    """
    asked = _Questions(passes, most_runs)
    try:
        if not asked(known | frozenset(layers)):
            return None
        if not asked(known):
            end = _shortest(layers, known, asked)
            _needed(known | {layers[end - 1]}, layers[: end - 1], asked)
    except _Enough:
        pass
    return asked.best


def _shortest(layers: Sequence[str], known: frozenset[str], passes: Passes) -> int:
    """How many layers, from the first on, are enough; all of them are, none is not."""
    failing, passing = 0, len(layers)
    while passing - failing > 1:
        middle = min(2 * failing or 1, (failing + passing) // 2)  # few are, as a rule
        if passes(known | frozenset(layers[:middle])):
            passing = middle
        else:
            failing = middle
    return passing


def _needed(known: frozenset[str], layers: Sequence[str], passes: Passes) -> frozenset[str]:
    """Those of `layers` that are needed besides the `known`, which are enough with all of them."""
    if not layers or passes(known):
        return frozenset()
    if len(layers) == 1:
        return frozenset(layers)
    first, second = layers[: len(layers) // 2], layers[len(layers) // 2 :]
    of_second = _needed(known | frozenset(first), second, passes)
    return of_second | _needed(known | of_second, first, passes)
