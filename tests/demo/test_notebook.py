"""The notebook: its committed form, and its execution on the demo's model."""

import ast
import json
import re

import pytest
from small_model import ROOT

# Only this test needs nbformat, so an environment may lack it.
nbformat = pytest.importorskip('nbformat')
nbclient = pytest.importorskip('nbclient')
pytest.importorskip('ipykernel')

NOTEBOOK = ROOT / 'demo' / 'deqdet.ipynb'

# Appended code that reports what the cells found.
REPORT = '''
import json
json.dumps(dict(
    detections=len(result), points=image.points is not None,
    residuals={part: lengths.mean(0).tolist() for part, lengths in residuals.items()},
    moves={name: np.concatenate(parts, axis=1).mean(1).tolist() for name, parts in moves.items()}))
'''


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == 'code']


def test_the_committed_outputs_are_those_of_one_run(notebook):
    """They are small enough for a repository, complete, and contain nothing about the machine."""
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 500_000
    assert [cell.execution_count for cell in code_cells(notebook)] == list(
        range(1, len(code_cells(notebook)) + 1))
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {'stream', 'display_data', 'execute_result'}
    assert sum('image/png' in output.get('data', {}) for output in outputs) == 5
    text = ''.join(output.text for output in outputs if output.output_type == 'stream')
    assert not re.search(r'(^|\s)/\w+/|Warning|Traceback', text)


def test_the_plugin_comes_before_mmdet(notebook):
    imported = []
    for cell in code_cells(notebook):
        source = re.sub(r'^%.*$', '', cell.source, flags=re.MULTILINE)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                imported += [node.module] if isinstance(node, ast.ImportFrom) else [
                    alias.name for alias in node.names]
    families = [name.split('.')[0] for name in imported]
    others = [families.index(name) for name in ('mmdet', 'mmengine', 'mmcv') if name in families]
    assert others and families.index('deqdet') < min(others)


@pytest.mark.slow
def test_it_runs_on_the_demo(notebook, demo):
    cells = code_cells(notebook)
    settings = next(cell for cell in cells if 'parameters' in cell.metadata.get('tags', ()))
    settings.source += (f'\nCHECKPOINT = {str(demo.checkpoint(0))!r}'
                        f'\nIMAGES = {str(demo.folder / "data/digits/val/*.png")!r}')
    notebook.cells.append(nbformat.v4.new_code_cell(REPORT))
    nbclient.NotebookClient(notebook, timeout=600, kernel_name='python3',
                            resources=dict(metadata=dict(path=str(NOTEBOOK.parent)))).execute()
    pictures = [output for cell in cells for output in cell.outputs if 'image/png' in output.get('data', {})]
    assert len(pictures) == 5
    report = notebook.cells[-1].outputs[-1]['data']['text/plain']
    found = json.loads(ast.literal_eval(report))

    # The notebook's text describes these results.
    assert found['points'] and 2 <= found['detections'] <= 6
    for part in ('content', 'position'):
        residuals = found['residuals'][part]
        assert len(residuals) == 12 and residuals[-1] < 0.2 * residuals[0]
    with_detection, without = (found['moves'][name][-1] for name in ('with a detection', 'without'))
    assert with_detection < 0.2 * without
