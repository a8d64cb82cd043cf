"""The page in a real browser: sliders work, downloads match the picture, no other machine is contacted."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import numpy as np
import pytest
from deqdet import app
from deqdet.analysis import box_frame
from PIL import Image
from shown import pixels
from small_model import ROOT

# Gradio is a requirement only of these tests and tools/app.py. The browser is Debian's.
pytest.importorskip('gradio', reason='the page needs gradio, which is not installed')
playwright = pytest.importorskip(
    'playwright.sync_api', reason='a browser is driven by playwright, which is not installed')
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(CHROMIUM is None, reason='no browser: apt-get install chromium')]

FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
         '--disable-background-networking', '--disable-component-update']
LOCAL = ('127.0.0.1', 'localhost', '::1')
# Runs a tool and records every connection to another machine.
WATCHED = '''
import runpy, sys
log = open(sys.argv[1], 'a', buffering=1)

def watch(event, args):
    if event == 'socket.connect' and isinstance(args[1], tuple) and args[1][0] not in {local!r}:
        print(event, args[1], file=log)
    if event == 'socket.getaddrinfo' and args[0] not in (None, *{local!r}):
        print(event, args[0], file=log)

sys.addaudithook(watch)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name='__main__')
'''


@pytest.fixture(scope='module')
def server(detector, tmp_path_factory):
    """The real tool: its address, and the record of its connections to other machines."""
    folder = tmp_path_factory.mktemp('server')
    (folder / 'watched.py').write_text(WATCHED.format(local=LOCAL))
    (folder / 'calls').touch()
    words = [sys.executable, folder / 'watched.py', folder / 'calls', ROOT / 'tools' / 'app.py', *detector,
             '--port', _free_port(), '--refinements', 6, '--device', 'cpu']
    process = subprocess.Popen(list(map(str, words)), cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith('the page is at '):
                break
        else:
            pytest.fail(f'the server did not start: {"".join(lines)}')
        yield line.split()[4], folder / 'calls'
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


def _free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


@pytest.fixture(scope='module')
def browser():
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield opened
        opened.close()


class Visitor:
    """One browser session."""

    def __init__(self, browser, address):
        self.context = browser.new_context(viewport=dict(width=1280, height=800))
        self.page = self.context.new_page()
        self.asked, self.failures = [], []
        self.page.on('request', lambda request: self.asked.append(request.url))
        self.page.on('websocket', lambda socket: self.asked.append(socket.url))
        self.page.on('pageerror', lambda error: self.failures.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector('#steps input[type=range]')

    def drop(self, path):
        self.page.set_input_files('#image input[type=file]', str(path))

    def move(self, refinements):
        """Move the slider with the arrow keys, as a user does."""
        handle = self.page.locator('#steps input[type=range]')
        handle.focus()
        handle.press('Home')
        for _ in range(refinements):
            handle.press('ArrowRight')
        self.shows(refinements)

    def shows(self, refinements):
        """The status, as soon as it reports this number of refinements."""
        return self.read(re.compile(rf'^\s*{refinements} refinements?:'))

    def read(self, text):
        """The status, as soon as it contains this text."""
        status = self.page.locator('#status')
        playwright.expect(status).to_contain_text(text, timeout=30_000)
        return status.inner_text()

    def download(self, button, path):
        with self.page.expect_download() as caught:
            self.page.click(f'#{button}')
        caught.value.save_as(path)
        return path


@pytest.fixture
def visitor(server, browser):
    """Makes visitors. At the end, neither they nor the server have contacted another machine."""
    address, calls = server
    made = []

    def visitor():
        made.append(Visitor(browser, address))
        return made[-1]

    yield visitor
    for each in made:
        assert {urlsplit(url).hostname for url in each.asked if not url.startswith(('data:', 'blob:'))} \
            == {urlsplit(address).hostname}
        assert each.failures == []
        each.context.close()
    assert calls.read_text() == ''


def test_the_slider_moves_boxes_and_the_downloads_are_what_is_drawn(visitor, playground, image, tmp_path):
    path = image()
    visitor = visitor()
    visitor.drop(path)
    visitor.shows(4)  # the config's number of refinements
    solution = playground.solve(path, 'iterate')
    boxes = {}
    for k in (6, 0, 2):
        visitor.move(k)
        results = json.loads(visitor.download('results', tmp_path / f'{k}.json').read_text())
        with Image.open(visitor.download('png', tmp_path / f'{k}.png')) as opened:
            drawn = np.asarray(opened.convert('RGB'))
        # The server is another process on the same machine.
        app.write_results(tmp_path / 'expected.json', solution, k, 0.3)
        expected = json.loads((tmp_path / 'expected.json').read_text())
        assert len(results['annotations']) == len(expected['annotations']) > 0
        for found, other in zip(results['annotations'], expected['annotations']):
            assert found['category_id'] == other['category_id']
            assert found['bbox'] == pytest.approx(other['bbox'], abs=0.01)
            assert found['score'] == pytest.approx(other['score'], abs=1e-4)
        boxes[k] = np.array([each['bbox'] for each in results['annotations']])
        # The picture has a line at each box of the results.
        empty = pixels(box_frame(solution.image, k, score=1.0)).astype(int)
        changed = np.abs(empty - drawn).max(-1) > 20
        for x, y, width, height in boxes[k]:
            for edge in edges(x, y, width, height, shape=(48, 64), scale=480 / 64, title=30):
                assert changed[edge].mean() > 0.9
    assert any(len(boxes[0]) != len(boxes[k]) or np.abs(boxes[0] - boxes[k]).max() > 1 for k in (2, 6))


def edges(x, y, width, height, *, shape, scale, title):
    """Positions of the edges of a box in the drawn picture, if they are inside."""
    rows, columns = (np.arange(max(0, low) + 1, min(low + length, most) - 1, 0.5)
                     for low, length, most in ((y, height, shape[0]), (x, width, shape[1])))
    for row in (y, y + height):
        if 1 < row < shape[0] - 1 and len(columns):
            yield np.full(len(columns), round(title + scale * row)), (scale * columns).astype(int)
    for column in (x, x + width):
        if 1 < column < shape[1] - 1 and len(rows):
            yield (title + scale * rows).astype(int), np.full(len(rows), round(scale * column))


def test_solver_and_tolerance(visitor, playground, image):
    path = image()
    visitor = visitor()
    visitor.drop(path)
    visitor.read('iterate solved 6 refinements')
    visitor.page.check('#solver input[value=anderson]')
    visitor.read('anderson solved 6 refinements')
    solution = playground.solve(path, 'anderson')
    limit = round(float(np.sort(solution.image.residuals['position'][:-1])[2]) * 1.01, 3)
    visitor.page.fill('#content input', '1000')
    visitor.page.fill('#position input', str(limit))
    visitor.page.check('#stops input')
    stop = app.stop_of(solution, dict(content=1000, position=limit))
    assert f'with the final refinement that is {stop} refinements' in visitor.read('reached at step')
    visitor.shows(stop)
    playwright.expect(visitor.page.locator('#steps input[type=number]')).to_have_value(str(stop))


def test_two_visitors_do_not_see_each_other(visitor, image):
    one, other = visitor(), visitor()
    one.drop(image('one.png', seed=1))
    other.drop(image('other.png', width=32, seed=2))
    assert 'one.png (64 x 48)' in one.shows(4)
    assert 'other.png (32 x 48)' in other.shows(4)
    one.move(2)
    assert 'one.png (64 x 48)' in one.shows(2)
    assert 'other.png (32 x 48)' in other.shows(4)


def test_a_broken_image_is_one_line_and_the_next_one_works(visitor, image, tmp_path):
    visitor = visitor()
    (tmp_path / 'broken.png').write_text('no image')
    visitor.drop(tmp_path / 'broken.png')
    said = visitor.read('Error')
    assert 'broken.png ' in said and '\n' not in said.strip()
    assert visitor.page.locator('#picture img').count() == 0
    visitor.page.click('#image button[aria-label="Remove Image"]')
    visitor.read('No image yet')
    visitor.drop(image())
    visitor.shows(4)


def test_a_bad_number_is_one_line_and_the_next_image_works(visitor, image):
    visitor = visitor()
    page = visitor.page
    visitor.drop(image())
    visitor.shows(4)
    page.fill('#steps input[type=number]', '51')
    visitor.shows(6)
    playwright.expect(page.locator('#steps input[type=number]')).to_have_value('6')
    page.fill('#steps input[type=number]', '')
    visitor.read('refinements is empty')
    page.fill('#steps input[type=number]', '3')
    visitor.shows(3)
    page.check('#stops input')
    page.fill('#position input', '-1')
    said = visitor.read('tolerance: position=-1 ')
    assert '\n' not in said.strip()
    page.click('#image button[aria-label="Remove Image"]')
    visitor.read('No image yet')
    visitor.drop(image('other.png', width=32, seed=1))
    visitor.read('tolerance: position=-1 ')
    assert page.locator('#picture img, #curve img').count() == 0
    assert all(page.locator(f'#{name}').is_disabled() for name in ('results', 'png'))
    page.fill('#position input', '0.5')
    visitor.read('other.png (32 x 48)')
    page.click('#image button[aria-label="Remove Image"]')
    visitor.read('No image yet')
    visitor.drop(image('third.png', width=40, seed=2))
    visitor.read('third.png (40 x 48)')


def test_files_of_the_server_are_not_given(visitor, server, detector):
    visitor = visitor()
    for path in (ROOT / 'README.md', detector.weights, '/etc/hostname'):
        answer = visitor.page.request.get(f'{server[0]}gradio_api/file={path}')
        assert answer.status in (403, 404)


def test_a_port_that_is_taken(refused, detector, monkeypatch):
    monkeypatch.setenv('GRADIO_TEMP_DIR', '')  # monkeypatch restores it
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = other.getsockname()[1]
        line = refused('app.py', *detector, '--port', port)
        assert f'--port {port} ' in line and line.endswith(' [bad-argument]')
