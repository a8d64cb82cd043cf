"""Errors that stop a run with one line instead of a traceback, and text that fits on one line."""

import unicodedata


class UsageError(ValueError):
    """Wrong input from the user: config, annotation, image, checkpoint or argument.

    The message is one line: what is wrong and how to fix it. The commands print it without a traceback.
    """


def one_line(message: str) -> str:
    """A message in one line that is safe to print.

    Names in the user's files may contain line breaks, control sequences of the terminal, and surrogates,
    which cannot be encoded.
    """
    return ''.join(letter if letter.isprintable() else ascii(letter)[1:-1]
                   for letter in ' '.join(message.split()))


def first_line(error: BaseException) -> str:
    """The first line of another library's error, which may be long; the class name if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shown_name(name: str) -> str:
    """A file name for results and the terminal: one line that can be encoded.

    Args:
        name (str): From the file system: bytes that are not UTF-8 are surrogates.

    Returns:
        str: The name, with ``\\xe9`` for such bytes and ``\\n`` and the like for control characters.
    """
    return ''.join(_escaped(letter) if unicodedata.category(letter) in ('Cc', 'Cs', 'Zl', 'Zp') else letter
                   for letter in name)


def _escaped(letter: str) -> str:
    byte = ord(letter) - 0xdc00
    return f'\\x{byte:02x}' if 0x80 <= byte <= 0xff else ascii(letter)[1:-1]


class NonFiniteError(FloatingPointError):
    """A loss or a matching cost is NaN or infinite."""
