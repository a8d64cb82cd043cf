"""Installed packages come before files of the user, which may have any name.

A config at the top of the checkout may be named ``lvis.py``, or ``random.py``. What Python puts first (the
folder of the script, or the current one) would make it hide the package of that name. This imports only what
Python has imported already.
"""

import os
import sys


def run_tool(tool: str) -> None:
    """Run the command of a file below ``tools``: that of ``tools/analysis/study.py`` is ``analysis.study``.

    Args:
        tool (str): The file.
    """
    folder, name = os.path.split(os.path.realpath(tool))
    group = os.path.basename(folder)
    tools = folder if group == 'tools' else os.path.dirname(folder)
    installed_first(folder, os.path.dirname(tools))
    from deqdet_command import run_command
    run_command(name[:-len('.py')] if tools == folder else f'{group}.{name[:-len(".py")]}')


def installed_first(*folders: str) -> None:
    """Take folders of tool, checkout and user off the path; the plugin of a checkout comes first.

    ``run`` of ``deqdet.commands`` puts them back, last, when all packages are imported. A current folder that
    PYTHONPATH names stays, but comes last. Processes that this one starts (loader workers that are spawned)
    do not put the current folder first, either.

    Args:
        *folders (str): Real paths. The current folder is another.
    """
    plugin = os.path.dirname(os.path.realpath(__file__))
    first = [plugin] if os.path.isfile(os.path.join(plugin, '..', 'tools', 'train.py')) else []
    theirs = {*folders, os.path.realpath('')}
    chosen = [os.path.realpath(each) for each in os.environ.get('PYTHONPATH', '').split(os.pathsep) if each]
    others = [folder for folder in sys.path if os.path.realpath(folder) not in {*theirs, *first}]
    sys.path[:] = [*first, *others, *(each for each in chosen if each in theirs and each not in folders)]
    os.environ.setdefault('PYTHONSAFEPATH', '1')
