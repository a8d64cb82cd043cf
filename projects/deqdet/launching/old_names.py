"""Option names of earlier versions: they still work, but no help shows them."""

import argparse


def keep_old_name(parser: argparse.ArgumentParser, option: argparse.Action, old: str) -> None:
    """Keep the old name of an option, with its dashes, as a second name."""
    parser.add_argument(old, dest=option.dest, type=option.type or str, nargs=option.nargs,
                        default=argparse.SUPPRESS, help=argparse.SUPPRESS)
