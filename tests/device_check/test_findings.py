"""A failing check becomes a line of the table, and the others continue."""

import pytest
import torch
from deqdet.device_check import SkippedError, as_json, run_checks, table_of, verdict_of
from deqdet.device_check.findings import Setting, bounded, judged, measured

SETTING = Setting(device=torch.device('cpu'), golden=None, quick=True, rounds=1)


def breaks(error):
    def check(setting):
        yield measured('before', 'a value | of two words\nand lines')
        raise error

    return check


def holds(setting):
    yield judged('after', True, 'as it should', number=3)


@pytest.mark.parametrize('error, result, detail', [
    (RuntimeError('no kernel\nimage'), 'failed', 'RuntimeError: no kernel image'),
    (torch.OutOfMemoryError('Tried to allocate 2 GiB'), 'failed', 'out of memory: Tried to allocate 2 GiB'),
    (MemoryError(), 'failed', 'out of memory'),
    (SkippedError('there is no triton'), 'skipped', 'there is no triton'),
    (ZeroDivisionError('x' * 1000), 'failed', 'ZeroDivisionError: xxx'),
])
def test_one_that_breaks_does_not_stop_the_others(error, result, detail):
    told = []
    findings = run_checks({'one': breaks(error), 'two': holds}, SETTING, seconds=60, tell=told.append)
    assert [finding.result for finding in findings] == ['measured', result, 'holds']
    assert findings[1].check == 'one' and findings[1].detail.startswith(detail)
    assert len(findings[1].detail) < 200 and '\n' not in findings[1].detail
    assert len(told) == 2 and told[0].startswith('[1/2] one ...')
    table = table_of(findings).splitlines()
    assert len(table) == 2 + len(findings) and all(line.count(' | ') == 2 for line in (table[0], *table[2:]))
    found = as_json(findings, SETTING, 1.0)
    assert found['holds'] == (result != 'failed') and found['findings'][2]['values'] == dict(number=3)
    assert any(line.startswith('failed: one') for line in verdict_of(findings)) == (result == 'failed')
    assert any(line.startswith('skipped: one') for line in verdict_of(findings)) == (result == 'skipped')


def test_what_the_time_does_not_reach_is_skipped():
    findings = run_checks({'one': holds, 'two': holds}, SETTING, seconds=-1, tell=lambda line: None)
    assert [finding.result for finding in findings] == ['skipped', 'skipped']
    assert 'time' in findings[0].detail


@pytest.mark.parametrize('error', [2e-3, float('nan'), float('inf')])
def test_an_error_above_its_bound_fails(error):
    assert bounded('x', error, 1e-3).result == 'failed'
    assert bounded('x', 1e-4, 1e-3).result == 'holds'
