"""The expected answer of an engine's self-test: what the card's ONNX finds in the golden picture on the CPU."""

from __future__ import annotations

import logging
from contextlib import closing

from edgeface.errors import EngineError
from edgeface.model_card import Card
from edgeface.passport import Golden, Precision, Size
from edgeface.self_test import make_golden

log = logging.getLogger(__name__)


def expected_answer(card: Card, input_size: Size, precision: Precision) -> Golden | None:
    """For the passport; None, and a warning, where there can be none: an engine is good without."""
    try:
        from edgeface.cpu.engine import open_engine
    except ImportError as error:
        log.warning("%s: no self-test: %s is missing, pip install 'edgeface[cpu]'", card.name, error.name or error)
        return None
    try:
        with closing(open_engine(card, input_size, threads=2, spinning=False)) as engine:
            golden = make_golden(card, engine, precision)
    except EngineError as error:
        log.warning("%s: no self-test: %s", card.name, error)
        return None
    if golden is None:
        log.warning("%s: no self-test: the network is sure of no face in the golden picture", card.name)
    return golden
