"""What stops a run with one line instead of a traceback."""


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


class NonFiniteError(FloatingPointError):
    """A loss or a matching cost is NaN or infinite."""
