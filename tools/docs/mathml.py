"""MkDocs hook: turns formulas into MathML at build time, so the browser needs no script."""

import re

from latex2mathml.converter import convert

# The output of pymdownx.arithmatex for $...$ and $$...$$.
_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL)
_ENTITIES = {'&lt;': '<', '&gt;': '>', '&amp;': '&'}


def on_page_content(html, **_):
    """Replace every formula of a page."""
    return _FORMULA.sub(_mathml, html)


def _mathml(found):
    latex = re.sub('|'.join(_ENTITIES), lambda entity: _ENTITIES[entity[0]], found['latex'])
    display = 'block' if found['open'] == '[' else 'inline'
    return f'<{found["tag"]} class="formula">{convert(latex.strip(), display=display)}</{found["tag"]}>'
