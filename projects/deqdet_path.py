"""Installed packages come before files of the user, which may have any name.

A config at the top of the checkout may be named ``lvis.py``, or ``random.py``. What Python puts first (the
folder of the script, or the current one) would make it hide the package of that name. This imports only what
Python has imported already.
"""

import os
import sys


def installed_first(tool: str) -> None:
    """Take the folders of tool, checkout and user off the path; the plugin of a checkout comes first.

    ``run`` of ``deqdet.commands`` puts them back, last, when all packages are imported. A current folder that
    PYTHONPATH names stays, but comes last. Processes that this one starts (loader workers that are spawned)
    do not put the current folder first, either.

    Args:
        tool (str): File of the tool, in the folder ``tools`` or one below it.
    """
    here = os.path.dirname(os.path.realpath(tool))
    tools = here if os.path.basename(here) == 'tools' else os.path.dirname(here)
    root = os.path.dirname(tools)
    plugin = os.path.join(root, 'projects')
    first = [plugin] if os.path.isdir(os.path.join(plugin, 'deqdet')) else []
    theirs = {here, root, os.path.realpath('')}
    chosen = [os.path.realpath(each) for each in os.environ.get('PYTHONPATH', '').split(os.pathsep) if each]
    others = [folder for folder in sys.path if os.path.realpath(folder) not in {*theirs, plugin}]
    sys.path[:] = [*first, *others, *(each for each in chosen if each in theirs and each not in (here, root))]
    os.environ.setdefault('PYTHONSAFEPATH', '1')
