"""How an action ends for the user of the tools: successfully, or with one line."""

from typing import Callable, Optional

from deqdet.compat.building import parts_named_in_errors
from deqdet.compat.image_loading import images_named_in_errors
from deqdet.errors import NonFiniteError, UsageError
from deqdet.launching.explaining import explain


def line_of(action: Callable[[], None]) -> Optional[str]:
    """Do something as ``launching.command_line.run`` does; returns its error line, or None on success.

    Errors that would give a traceback are raised.
    """
    try:
        with images_named_in_errors(), parts_named_in_errors():
            action()
    except (UsageError, NonFiniteError, FileNotFoundError) as error:
        line = str(error)
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        line = str(told)
    else:
        return None
    assert line.strip(), 'a line without a word'
    return line
