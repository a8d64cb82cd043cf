"""What stops a run with one line instead of a traceback."""


class UsageError(ValueError):
    """Bad input of the user: config, annotation, image, checkpoint or argument.

    Its message is one line that says what is wrong and how to mend it; the command line tools print it
    without a traceback.
    """


class NonFiniteError(FloatingPointError):
    """A loss or a matching cost is NaN or infinite."""
