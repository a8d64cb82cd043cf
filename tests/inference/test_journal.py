"""A journal after its writer was killed, and the journals that are refused."""

import tempfile
from pathlib import Path

from deqdet.inference.journal import NAME, Journal
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

BATCHES = [dict(records=[dict(input='ä', scores=[0.1, 1 / 3])]), dict(records=[]), dict(records=[1] * 40)]


def write(folder, batches=BATCHES, **options):
    journal = Journal(folder, dict(steps=3), **options)
    for batch in batches:
        journal.append(**batch)
    journal.close()


def batches(journal):
    return [batch for _, batch in journal.places()]


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1))
def test_cut_anywhere_whole_lines_are_left_and_the_rest_can_be_added(share):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write(folder)
        path = folder / NAME
        whole = path.read_bytes()
        left = whole[:round(share * len(whole))]
        path.write_bytes(left)
        journal = Journal(folder, dict(steps=3))
        known = batches(journal)
        assert known == BATCHES[:max(0, left.count(b'\n') - 1)]
        for batch in BATCHES[len(known):]:
            journal.append(**batch)
        journal.close()
        assert path.read_bytes() == whole


def test_other_settings_are_refused_unless_it_starts_again(tmp_path):
    write(tmp_path)
    with refused('bad-journal', tmp_path, 'steps 3, now 4', '--restart', '--out'):
        Journal(tmp_path, dict(steps=4))
    with refused('bad-journal', tmp_path, '(weights '):
        Journal(tmp_path, dict(steps=3, weights='0' * 64))
    write(tmp_path, BATCHES[:1], restart=True)
    assert batches(Journal(tmp_path, dict(steps=3))) == BATCHES[:1]


def test_settings_of_which_there_are_no_results_may_change(tmp_path):
    write(tmp_path, [])
    Journal(tmp_path, dict(steps=4)).close()
    assert (tmp_path / NAME).read_text() == '{"settings": {"steps": 4}}\n'


def test_one_writer_at_a_time(tmp_path):
    first = Journal(tmp_path, {})
    with refused('bad-journal', 'another process', '--out'):
        Journal(tmp_path, {}, restart=True)
    first.close()
    Journal(tmp_path, {})


def test_another_file_of_that_name(tmp_path):
    (tmp_path / NAME).write_text('shopping\n')
    with refused('bad-journal', tmp_path / NAME, '--restart', '--out'):
        Journal(tmp_path, {})
    assert (tmp_path / NAME).read_text() == 'shopping\n'
