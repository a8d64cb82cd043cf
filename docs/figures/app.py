"""The screenshots of docs/app.md: app_few.png and app.png, beside this file. Needs playwright and chromium.

python docs/figures/app.py CONFIG WEIGHTS IMAGE [--few 1] [--many 9] [--examples FOLDER]
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

FOLDER = Path(__file__).resolve().parent
TOOL = FOLDER.parents[1] / 'tools' / 'app.py'
PORT = 7869


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('weights')
    parser.add_argument('image')
    parser.add_argument('--few', type=int, default=1, help='refinements of app_few.png')
    parser.add_argument('--many', type=int, default=9, help='refinements of app.png')
    parser.add_argument('--examples', help='see tools/app.py')
    args = parser.parse_args()
    words = [sys.executable, TOOL, args.config, args.weights, '--port', PORT]
    words += ['--examples', args.examples] if args.examples else []
    server = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True)
    try:
        address = next(line.split()[4] for line in server.stdout if line.startswith('the page is at '))
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which('chromium'),
                                             args=['--no-sandbox', '--disable-gpu'])
            take(browser.new_page(viewport=dict(width=1280, height=800)), address, args)
            browser.close()
    finally:
        server.terminate()
        server.wait()


def take(page, address, args):
    """Both pictures."""
    page.goto(address)
    page.set_input_files('#image input[type=file]', args.image)
    expect(page.locator('#status')).to_contain_text(Path(args.image).name, timeout=60_000)
    page.check('#stops input')
    expect(page.locator('#status')).to_contain_text('tolerance', timeout=20_000)
    for name, refinements in (('app_few', args.few), ('app', args.many)):
        page.fill('#steps input[type=number]', str(refinements))
        page.press('#steps input[type=number]', 'Enter')
        shown = re.compile(rf'^\s*{refinements} refinements?:')
        expect(page.locator('#status')).to_contain_text(shown, timeout=20_000)
        page.locator('#status').click()  # away from the field
        page.wait_for_timeout(1500)
        with Image.open(io.BytesIO(page.screenshot())) as shot:
            shot.convert('RGB').save(FOLDER / f'{name}.png', optimize=True)


if __name__ == '__main__':
    main()
