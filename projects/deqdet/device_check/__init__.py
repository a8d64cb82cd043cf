"""Checks of a machine. `tools/check_device.py` runs them and prints one table."""

from typing import Dict

from .agreement import check_compiled, check_half_path, check_sampling
from .findings import Check, Setting, SkippedError, as_json, run_checks, table_of, verdict_of
from .golden_checks import check_golden_cases
from .machine import describe_machine, problem_of
from .speed import check_decoder_speed, check_training_speed
from .training import check_amp, check_worker
from .waiting import check_waiting, waits_of

#: All checks, in the order in which they run: short and informative ones first.
CHECKS: Dict[str, Check] = {
    'machine': describe_machine,
    'golden': check_golden_cases,
    'sampling': check_sampling,
    'waits': check_waiting,
    'half': check_half_path,
    'amp': check_amp,
    'worker': check_worker,
    'compiled': check_compiled,
    'decoder': check_decoder_speed,
    'training': check_training_speed,
}

__all__ = [
    'CHECKS', 'Setting', 'SkippedError', 'as_json', 'problem_of', 'run_checks', 'table_of', 'verdict_of',
    'waits_of'
]
