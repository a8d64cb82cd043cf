"""The one exception for what the user can mend."""


class UsageError(ValueError):
    """Bad input of the user: config, annotation, image, checkpoint or argument.

    Its message is one line that says what is wrong and how to mend it; the command line tools print it
    without a traceback.
    """
