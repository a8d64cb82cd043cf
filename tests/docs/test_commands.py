"""A test runs every command of README and docs/, or the page has a reason; files and options exist."""

import ast
import contextlib
import importlib
import io
import re
import sys

import pytest
from mmengine.config import Config
from pages import (
    PAGES,
    RUNNABLE,
    SHOWN,
    TOOL,
    all_blocks,
    commands,
    inline_commands,
    without_environment,
)
from small_model import DEMO_CONFIG, ROOT

BLOCKS = all_blocks()
COMMANDS = [(block.where, without_environment(words)) for block in BLOCKS if block.language == 'bash'
            for words in commands(block.text)] + [
    (page, without_environment(words)) for path in PAGES for page, words in inline_commands(path)]
#: The tool that gets the further words of each shell tool, and the number of words it takes itself.
SCRIPTS = {
    'tools/dist_train.sh': ('tools/train.py', 2), 'tools/dist_test.sh': ('tools/test.py', 3),
    'tools/slurm_train.sh': ('tools/train.py', 4), 'tools/slurm_test.sh': ('tools/test.py', 4)}
#: Folders of the repository in commands. Data and results belong to the reader.
OURS = ('tools/', 'configs/', 'projects/', 'demo/', 'docs/', 'tests/', 'requirements', 'constraints')


def help_of(tool, *words):
    """Output of a Python tool with --help."""
    said, before = io.StringIO(), sys.argv
    name = tool[len('tools/'):-len('.py')].replace('/', '.')
    sys.argv = [tool, *words, '--help']
    try:
        with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as caught:
            importlib.import_module(f'deqdet.commands.{name}').main()
    finally:
        sys.argv = before
    assert caught.value.code == 0, tool
    return said.getvalue()


@pytest.fixture(scope='module')
def options():
    """Options of a tool, or of its subcommand; read once."""
    known = {}

    def options(tool, words):
        if tool not in known:
            known[tool] = help_of(tool)
        choices = re.search(r'\{([\w,-]+)\} \.\.\.', known[tool])
        if choices and words and words[0] in choices[1].split(','):
            tool, key = (tool, words[0]), tool
            known.setdefault(tool, help_of(key, words[0]))
        return set(re.findall(r'(?<![\w-])--?[a-zA-Z][\w-]*', known[tool]))

    return options


def tool_and_words(words):
    """The tool whose parser gets a command's words, and these words; None for other programs."""
    position = next((index for index, word in enumerate(words) if TOOL.fullmatch(word)), None)
    if position is not None:
        tool, rest = words[position], words[position + 1:]
    elif words[0] == 'deqdet' and len(words) > 1:
        tool, rest = named_tool(words[1:])
    else:
        return None
    if tool in SCRIPTS:
        tool, taken = SCRIPTS[tool]
        rest = rest[taken:]
    return tool, rest


def named_tool(words):
    """The tool that ``deqdet [FOLDER] NAME ...`` runs, and the words after its name."""
    folder = (ROOT / 'tools' / words[0]).is_dir() and len(words) > 1
    name, rest = words[1 if folder else 0].replace('-', '_'), words[2 if folder else 1:]
    if name.startswith('_'):
        return 'tools', []  # an option of the command itself
    found = [path.relative_to(ROOT).as_posix() for ending in ('py', 'sh')
             for path in sorted((ROOT / 'tools').glob(f'**/{name}.{ending}'))]
    assert found, f'there is no command deqdet {" ".join(words)}'
    return found[0], rest


def test_pages_are_found():
    assert len(PAGES) > 10 and len(COMMANDS) > 50


@pytest.mark.parametrize('block', [block for block in BLOCKS if block.language in RUNNABLE],
                         ids=lambda block: block.where)
def test_a_block_is_run_or_says_why_not(block):
    assert block.kind, (
        f'{block.where}: put <!-- run -->, <!-- config | FILE -->, <!-- run by tests/... --> or '
        '<!-- not run: REASON --> on the line before this block, see tests/pages.py')
    if block.kind == 'run by':
        assert (ROOT / block.mark.split()[2]).is_file(), block.where
    if block.kind == 'not run':
        assert len(block.mark) > len('not run: ') + 5, block.where
        for test in re.findall(r'tests/[\w/]+\.py', block.mark):
            assert (ROOT / test).is_file(), f'{block.where}: {test}'
    if block.kind == 'config':
        assert block.language == 'python' and len(block.settings) == 1


def test_other_blocks_are_shown_only():
    strange = {block.where: block.language for block in BLOCKS if block.language not in RUNNABLE + SHOWN}
    assert not strange, 'bash for commands, python, or text for what is said'


def test_python_is_python():
    for block in BLOCKS:
        if block.language == 'python':
            ast.parse(block.text, filename=block.where)


@pytest.mark.parametrize('where, words', COMMANDS,
                         ids=[f'{where}-{index}' for index, (where, _) in enumerate(COMMANDS)])
def test_files_and_options_of_a_command_are_there(options, where, words):
    for word in words:
        if word.startswith(OURS) and '...' not in word and '*' not in word:
            assert (ROOT / word).exists(), f'{where}: there is no {word}'
    found = tool_and_words(words)
    if found is None or not found[0].endswith('.py'):
        return
    tool, rest = found
    accepted = options(tool, rest)
    for word in rest:
        if re.match(r'--?[a-zA-Z]', word):
            assert word.split('=')[0] in accepted, f'{where}: {tool} has no option {word}'


@pytest.mark.parametrize(
    'where, words', [(where, words) for where, words in COMMANDS if '--cfg-options' in words],
    ids=lambda value: value if isinstance(value, str) else '')
def test_settings_belong_to_the_config(where, words):
    """New keys may be added only below entries that the config has."""
    named = next((word for word in words if word.startswith(('configs/', 'projects/configs/'))), None)
    cfg = Config.fromfile(str(ROOT / named if named else DEMO_CONFIG))
    for word in words[words.index('--cfg-options') + 1:]:
        if '=' not in word or word.startswith('--'):
            break
        if word in ('KEY=VALUE', 'load_from=FILE', 'load_from=deqdet_r50_1x.pth'):
            continue
        first, second = (word.split('=')[0].split('.') + [None])[:2]
        assert first in cfg, f'{where}: a config has no {first}'
        if second and first != 'test_evaluator':
            assert second in cfg[first], f'{where}: {first} has no {second}'


def test_targets_of_make_are_there():
    makefile = (ROOT / 'Makefile').read_text()
    targets = {words[1] for _, words in COMMANDS if words[0] == 'make' and len(words) > 1}
    targets |= {target for path in PAGES for target in re.findall(r'`make ([\w-]+)`', path.read_text())}
    missing = {target for target in targets if not re.search(rf'^{target}:', makefile, re.MULTILINE)}
    assert targets and not missing


def test_extras_are_there():
    setup = (ROOT / 'setup.py').read_text() + (ROOT / 'pyproject.toml').read_text()
    lists = {found for path in PAGES for found in re.findall(r"\.\[([\w,]+)\]'", path.read_text())}
    extras = {extra for found in lists for extra in found.split(',')}
    assert extras and all(re.search(rf'''['"]?{extra}['"]?\s*[:=]''', setup) for extra in extras)


def test_options_in_the_text_are_of_some_tool(options):
    """Options in the text, such as `--score`, belong to a tool that the page names, or to any tool."""
    known = {'--no-build-isolation'}  # of pip
    for tool in sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / 'tools').rglob('*.py')):
        if 'run_tool' in (ROOT / tool).read_text():
            known |= options(tool, [])
            for command in re.findall(r'\{([\w,]+)\} \.\.\.', help_of(tool)):
                for name in command.split(','):
                    known |= options(tool, [name])
    known |= set(re.findall(r'--[\w-]+', (ROOT / 'demo/onnx_detect.py').read_text()))
    strange = {}
    for path in PAGES:
        spans = re.findall(r'(?<!`)`(--\w[^`\n]+)`(?!`)', path.read_text())
        words = [word for span in spans for word in span.split() if re.match(r'--\w', word)]
        unknown = {re.split('[=:]', word)[0] for word in words} - known
        if unknown:
            strange[path.name] = unknown
    assert not strange
