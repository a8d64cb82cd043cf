"""What stops a run with one line instead of a traceback."""

import unicodedata


class UsageError(ValueError):
    """Bad input of the user: config, annotation, image, checkpoint or argument.

    Its message is one line that says what is wrong and how to mend it; the command line tools print it
    without a traceback.
    """


def one_line(message: str) -> str:
    """A message in one line that a terminal shows as it is.

    Names in files of others may hold line breaks, commands to the terminal, and halves of letters that cannot
    be written at all.
    """
    return ''.join(letter if letter.isprintable() else ascii(letter)[1:-1]
                   for letter in ' '.join(message.split()))


def first_line(error: BaseException) -> str:
    """The first line of an error of another library, which may have pages; its class if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shown_name(name: str) -> str:
    """A file name as it is written in results and on a terminal, in one line that can be encoded.

    Args:
        name (str): From the file system: bytes that are not UTF-8 are surrogates.

    Returns:
        str: The name; ``\\xe9`` for such bytes, ``\\n`` and the like for control characters. Other names stay
        as they are.
    """
    return ''.join(_escaped(letter) if unicodedata.category(letter) in ('Cc', 'Cs', 'Zl', 'Zp') else letter
                   for letter in name)


def _escaped(letter: str) -> str:
    byte = ord(letter) - 0xdc00
    return f'\\x{byte:02x}' if 0x80 <= byte <= 0xff else ascii(letter)[1:-1]


class NonFiniteError(FloatingPointError):
    """A loss or a matching cost is NaN or infinite."""
