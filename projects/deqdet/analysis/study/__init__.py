"""A study: tables of several variants of a config, each trained with several seeds."""

from .outcomes import Outcome, outcome_of, with_test
from .tables import curve_rows, share_rows, summary
from .variants import Study, Variant, read_study

__all__ = ['Outcome', 'Study', 'Variant', 'curve_rows', 'outcome_of', 'read_study', 'share_rows', 'summary',
           'with_test']
