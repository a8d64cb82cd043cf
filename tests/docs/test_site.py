"""The documentation builds without warnings, fetches nothing from other sites, and has no dead links."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from pages import PAGES
from small_model import ROOT


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The pages of a strict build, which checks links, anchors and the navigation."""
    for package in ('mkdocs', 'material', 'mkdocstrings', 'latex2mathml'):
        pytest.importorskip(package, reason='requirements-dev.txt has what builds the documentation')
    folder = tmp_path_factory.mktemp('site')
    # Not with --quiet, which hides warnings from --strict.
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(folder)], cwd=ROOT,
        capture_output=True, text=True, timeout=600, env=dict(os.environ, NO_MKDOCS_2_WARNING='1'))
    assert done.returncode == 0, done.stderr
    return folder


class Resources(HTMLParser):
    """The resources that a browser loads to show a page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in ('script', 'img', 'source', 'iframe', 'video', 'audio', 'embed'):
            self.found += [given.get('src'), given.get('srcset')]
        if tag == 'link' and given.get('rel') not in ('canonical', 'next', 'prev'):
            self.found.append(given.get('href'))
        if tag == 'style' or 'style' in given:
            self.found += re.findall(r'url\((.*?)\)', given.get('style') or '')


@pytest.mark.slow
def test_a_page_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob('*.html'))
    assert len(pages) > 20
    for page in pages:
        resources = Resources()
        resources.feed(page.read_text(encoding='utf-8'))
        found = [name for name in resources.found if name]
        assert found, page
        assert not [name for name in found if re.match(r'(?:https?:)?//', name)], page
        paths = [page.parent / re.sub('[?#].*', '', name) for name in found if not name.startswith('data:')]
        missing = [path for path in paths if not path.exists()]
        # The 404 page is written for the root of a server.
        assert not missing or page.name == '404.html', page


@pytest.mark.slow
def test_style_sheets_load_nothing_from_elsewhere(site):
    sheets = list(site.rglob('*.css'))
    assert sheets
    for sheet in sheets:
        text = sheet.read_text(encoding='utf-8')
        assert not re.search(r'(?:url\(|@import)\s*[\'"]?(?:https?:)?//', text), sheet


@pytest.mark.slow
def test_formulas_are_drawn_without_a_script(site):
    page = (site / 'equilibrium.html').read_text(encoding='utf-8')
    assert page.count('<math ') > 20 and '\\(' not in page and '\\[' not in page and '$$' not in page


@pytest.mark.slow
def test_every_package_has_its_page(site):
    page = (site / 'api/deqdet.model.heads.html').read_text(encoding='utf-8')
    assert 'id="deqdet.model.heads.deq.DEQDetRoIHead"' in page and 'refinement_steps' in page
    for init in (ROOT / 'projects/deqdet').rglob('__init__.py'):
        name = '.'.join(init.parent.relative_to(ROOT / 'projects').parts)
        assert (site / f'api/{name}.html').is_file()
    text = re.sub(r'<[^>]+>', '', page)
    assert not re.search(r':(?:class|func|obj|meth):|^::', text, re.MULTILINE), 'words of reStructuredText'


def slug(heading):
    """The anchor that GitHub and MkDocs give a heading."""
    return re.sub(r'[\s]+', '-', re.sub(r'[^\w\s-]', '', heading.replace('`', '')).strip().lower())


def anchors(path):
    text = re.sub(r'^```.*?^```', '', path.read_text(encoding='utf-8'), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r'^#+ (.+)$', text, re.MULTILINE)}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page):
    """The README is not a page of the site. The other pages are also read on the forge."""
    text = re.sub(r'^```.*?^```', '', page.read_text(encoding='utf-8'), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r'\]\(([^)\s]+)\)', text):
        if re.match(r'https?://', link) or link == 'api/index.md':
            continue
        name, _, anchor = link.partition('#')
        target = page.parent / name if name else page
        assert target.exists(), f'{page.name}: {link}'
        assert not anchor or anchor in anchors(target), f'{page.name}: {link}'
