"""Options of earlier versions still work, but --help does not show them."""

import argparse

import pytest
from deqdet.launching.command_line import keep_old_name


@pytest.mark.parametrize('words, expected', [([], 25), (['--steps', '3'], 3), (['--cap', '4'], 4)])
def test_an_old_name_sets_the_new_option(words, expected):
    parser = argparse.ArgumentParser()
    keep_old_name(parser, parser.add_argument('--steps', type=int, default=25), '--cap')
    assert parser.parse_args(words) == argparse.Namespace(steps=expected)
    assert '--steps' in parser.format_help() and '--cap' not in parser.format_help()
