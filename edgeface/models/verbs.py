"""`edgeface models <verb>`: arguments, and what each verb prints."""

from __future__ import annotations

import argparse
import json
import re
import sys

from edgeface.errors import EngineError


def add_verbs(models: argparse.ArgumentParser) -> None:
    """The verbs of `edgeface models`."""
    verbs = models.add_subparsers(dest="what", required=True, metavar="WHAT")
    name_help = "a network's name, or the path of its card"

    listed = verbs.add_parser("list", help="every network: is it here, what does its licence allow")
    listed.add_argument("--json", action="store_true", help="print JSON, with more of it")
    listed.set_defaults(verb_function=_list)

    info = verbs.add_parser("info", help="all that a network's card says, and the engines built of it")
    info.add_argument("card", metavar="NAME", help=name_help)
    info.set_defaults(verb_function=_info)

    verify = verbs.add_parser("verify", help="hold networks against their cards, engines against their passports")
    verify.add_argument("card", nargs="?", metavar="NAME", help=f"{name_help} (default: all)")
    verify.set_defaults(verb_function=_verify)

    pull = verbs.add_parser("pull", help="download a network")
    pull.add_argument("card", metavar="NAME", help=name_help)
    pull.add_argument("--profile", choices=("commercial",), help="refuse what may not be used so")
    pull.add_argument("--sha256", type=_checksum, metavar="HEX", help="for a card that has none")
    pull.set_defaults(verb_function=_pull)

    for verb in (listed, info, verify, pull):
        verb.add_argument("--engines", metavar="DIR", action="append", default=[], help="one more folder with networks")
        verb.add_argument("--debug", action="store_true", help="show tracebacks")


def _list(arguments: argparse.Namespace) -> int:
    from edgeface.models import catalogue

    found = catalogue.entries(arguments.engines)
    print(json.dumps(catalogue.listing(found), indent=1) if arguments.json else catalogue.table(found))
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from edgeface.models import catalogue

    print(catalogue.description(catalogue.entry(arguments.card, arguments.engines)))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from edgeface.models import catalogue

    name, engines = arguments.card, arguments.engines
    found = catalogue.entries(engines) if name is None else [catalogue.entry(name, engines)]
    all_good, any_there = True, False
    for good, line in catalogue.checks(found):
        print("good" if good else "BAD ", line, flush=True)
        all_good, any_there = all_good and good, True
    if name is not None and not any_there:
        raise EngineError(f"{name}: neither its weights nor an engine of it are here: edgeface models pull {name}")
    return 0 if all_good else EngineError.exit_code


def _pull(arguments: argparse.Namespace) -> int:
    from edgeface.model_card import find_card
    from edgeface.models import progress, pull

    card = find_card(arguments.card, tuple(arguments.engines))
    with progress.shown(card.onnx, sys.stderr) as show:
        path, fetched = pull.pull(
            card,
            arguments.engines,
            sha256=arguments.sha256 or "",
            commercial=arguments.profile == "commercial",
            progress=show,
        )
    print(f"{path}: {'good' if fetched else 'here already, and good'}; licence: {card.licence}; {card.allows}")
    return 0


def _checksum(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text.lower()):
        raise argparse.ArgumentTypeError(f"expected the 64 hexadecimal digits of a SHA-256, found {text!r}")
    return text.lower()
