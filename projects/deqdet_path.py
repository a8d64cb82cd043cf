"""Puts installed packages before the user's files on the path.

A user may name a config ``lvis.py`` or ``random.py``. Python puts the folder of the script, or the current
folder, first on the path, so this config would hide the package of that name. This file imports only modules
that Python has already imported.
"""

import os
import sys


def run_tool(tool: str) -> None:
    """Run the command of a file below ``tools``: ``tools/analysis/study.py`` runs ``analysis.study``."""
    folder, name = os.path.split(os.path.realpath(tool))
    group = os.path.basename(folder)
    tools = folder if group == 'tools' else os.path.dirname(folder)
    installed_first(folder, os.path.dirname(tools))
    from deqdet_command import run_command
    run_command(name[:-len('.py')] if tools == folder else f'{group}.{name[:-len(".py")]}')


def installed_first(*folders: str) -> None:
    """Remove the folders of tool, checkout and user from the path; put the plugin of a checkout first.

    ``run`` of ``deqdet.commands`` adds the folders again, at the end, after all packages are imported. If
    PYTHONPATH names the current folder, it stays, but comes last. Processes that this one starts (spawned
    loader workers) do not put the current folder first either.

    Args:
        *folders (str): Real paths of folders to remove. The current folder is always removed.
    """
    plugin = os.path.dirname(os.path.realpath(__file__))
    first = [plugin] if os.path.isfile(os.path.join(plugin, '..', 'tools', 'train.py')) else []
    theirs = {*folders, os.path.realpath('')}
    chosen = [os.path.realpath(each) for each in os.environ.get('PYTHONPATH', '').split(os.pathsep) if each]
    others = [folder for folder in sys.path if os.path.realpath(folder) not in {*theirs, *first}]
    sys.path[:] = [*first, *others, *(each for each in chosen if each in theirs and each not in folders)]
    os.environ.setdefault('PYTHONSAFEPATH', '1')
