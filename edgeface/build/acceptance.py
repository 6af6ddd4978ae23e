"""The accuracy gate of `edgeface build`: a form or engine is held against FP32, mended where it can be, or refused."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from edgeface.build import engine
from edgeface.build.accuracy import Gate
from edgeface.build.accuracy_report import Report, report_path, reports_text
from edgeface.build.device import NO_DEVICE
from edgeface.build.fallback import find_keep
from edgeface.build.makers import Maker
from edgeface.build.shown import DEMO, find_shown
from edgeface.build.workplace import scratch
from edgeface.errors import ConfigError, EngineError, one_line
from edgeface.model_card import Card, onnx_path
from edgeface.passport import Passport, Precision, engine_name, replace_files, write_engine

log = logging.getLogger(__name__)

_SAY_EVERY = 10  # layers


@dataclass(frozen=True, slots=True)
class Terms:
    """On what a form is tried, and what becomes of one that fails."""

    shown: str = DEMO  # as shown.find_shown takes it
    force: bool = False  # it is taken all the same
    auto_fallback: bool = False  # layers are left in FP32 until it passes
    engines: tuple[str, ...] = ()  # folders of networks


class Acceptance:
    """Holds the forms and engines of one card and precision against FP32, one input size after the other.

    Raises ConfigError when there is nothing to show.
    """

    def __init__(self, card: Card, maker: Maker, terms: Terms) -> None:
        self._card, self._maker, self._terms = card, maker, terms
        self._shown = find_shown(terms.shown)
        self._kept = maker.kept
        self._reports: list[Report] = []  # on the draft that was held last
        self._gate: Gate | None = None  # for its input size

    def form(self) -> Path:
        """What to draft the next engine from. Raises EngineError, ConfigError."""
        return self._maker.make(self._kept)

    def hold(self, draft: engine.Draft) -> engine.Draft:
        """The draft, or one of a form with layers in FP32, once that passes.

        Raises EngineError when none does, or none may be taken; ConfigError, SourceError.
        """
        self._reports, self._gate = [], None
        made_by_us = self.form() != onnx_path(self._card)
        if not made_by_us and draft.device is NO_DEVICE:
            return draft  # FP32 itself
        self._gate = Gate(self._card, draft.order.input_size, self._shown, engines=self._terms.engines)
        if not made_by_us:
            return draft  # only its engine can be held
        report, kept = settle(self._gate, self._maker, draft.order.precision, self._terms, self._kept)
        self._reports = [report]
        if kept == self._kept:
            return draft
        self._kept = kept
        return engine.draft(draft.order, folder=draft.path.parent, runtime=draft.runtime, form=self.form())

    def finish(self, draft: engine.Draft) -> None:
        """engine.finish; where there is a GPU, the engine is held against FP32 before it is written, too.

        Raises EngineError, DeviceError.
        """
        on_device = draft.device is not NO_DEVICE
        engine.finish(draft, self._accept_engine if on_device else self._accept)
        if self._kept != self._maker.kept:
            self._maker.store(self.form())
        if self._reports:
            replace_files({report_path(draft.path): reports_text(self._reports).encode()})

    def _accept(self, plan: bytes, passport: Passport) -> Passport:
        """The passport with the main figures."""
        if not self._reports:
            return passport
        return msgspec.structs.replace(passport, accuracy=self._reports[-1].main_figures())

    def _accept_engine(self, plan: bytes, passport: Passport) -> Passport:
        """The same, once the plan passes on this machine's GPU."""
        assert self._gate is not None
        name = engine_name(passport.card, passport.input_size, passport.precision, passport.dla_core is not None)
        with scratch() as folder:
            write_engine(folder / name, plan, passport)
            try:
                report = self._gate.of_engine(folder, name, passport.precision, passport.dla_core)
            except ConfigError as error:  # what runs engines is not installed
                log.warning("the engine itself was not tried: %s", one_line(error))
                return self._accept(plan, passport)
        print(report.table(), flush=True)
        if not report.passed:
            if not self._terms.force:
                raise EngineError(f"{refusal(report)}; --force takes it as it is")
            _warn(report)
        self._reports.append(report)
        return self._accept(plan, passport)


def settle(
    gate: Gate, maker: Maker, kind: Precision, terms: Terms, kept: frozenset[str] = frozenset()
) -> tuple[Report, frozenset[str]]:
    """The report on the form to be taken, and the layers in FP32 in it: `kept` and, maybe, more.

    Raises EngineError when it fails: with the layers that would make it pass, or what else to do.
    """
    report = gate.of_form(maker.make(kept), kind, kept=kept)
    print(report.table(), flush=True)
    if report.passed:
        return report, kept
    if terms.force:
        _warn(report)
        return report, kept
    log.info("looking for the layers to leave in FP32: some minutes")
    found = find_fallback(gate, maker, kind, kept)
    if found is None:
        raise EngineError(f"{refusal(report)}; no layers in FP32 mend it; --force takes it as it is")
    if not terms.auto_fallback:
        names = ", ".join(sorted(found))
        raise EngineError(
            f"{refusal(report)}; with {len(found)} of {len(maker.layers)} layers in FP32 it passes ({names}): "
            "--auto-fallback leaves them so, --force takes it as it is"
        )
    report = gate.of_form(maker.make(found), kind, kept=found)
    print(report.table(), flush=True)
    return report, found


def find_fallback(
    gate: Gate, maker: Maker, kind: Precision, kept: frozenset[str] = frozenset()
) -> frozenset[str] | None:
    """A small set of layers with which in FP32, beside those `kept`, the form passes; None: there is none."""

    @cache
    def passes(part: frozenset[str]) -> bool:
        one = gate.of_form(maker.make(part), kind, kept=part, tensors=False)
        log.info("with %d layers in FP32: %s", len(part), "; ".join(one.failures()) or "it passes")
        return one.passed

    if not maker.layers or not passes(kept | frozenset(maker.layers)):
        return None
    return find_keep(by_damage(gate.few(), maker, kind, kept), passes, kept)


def by_damage(gate: Gate, maker: Maker, kind: Precision, kept: frozenset[str]) -> list[str]:
    """The layers that are not `kept`, those first with which alone in low precision a form is furthest from FP32."""
    harm: dict[str, float] = {}
    left = [name for name in maker.layers if name not in kept]
    for name in left:
        harm[name] = gate.of_form(maker.make(frozenset(maker.layers) - {name}), kind, tensors=False).distance()
        if len(harm) % _SAY_EVERY == 0:
            log.info("tried %d of %d layers alone", len(harm), len(left))
    return sorted(left, key=lambda name: -harm[name])


def refusal(report: Report) -> str:
    """Why it is not taken, in one line."""
    return f"{report.title()}, fails on {report.pictures} pictures of {report.shown}: {'; '.join(report.failures())}"


def _warn(report: Report) -> None:
    log.warning("%s; taken by --force", refusal(report))
