"""Errors that stop a run with one line instead of a traceback, and text that fits on one line."""

import unicodedata
from typing import Final

#: What each code of an error means. Codes are stable: scripts and docs/troubleshooting.md use them.
CODES: Final = {
    'bad-annotations': 'an annotation file, or an entry of it, is wrong',
    'bad-argument': 'an argument of a command or a function has a wrong value',
    'bad-cfg-option': 'an entry of --cfg-options cannot be read, or the config has no place for it',
    'bad-checkpoint': 'a file is not a checkpoint, or it is damaged',
    'bad-config': 'a config cannot be read, or lacks a part',
    'bad-image': 'an image or a video cannot be read or used',
    'bad-journal': 'saved results in an output folder are damaged, in use, or from other settings',
    'bad-sample': 'the data pipeline gives samples that the model cannot use',
    'bad-setting': 'a setting of the config has a wrong value',
    'checkpoint-mismatch': 'the weights of a checkpoint do not fit the model',
    'classes-mismatch': 'the classes of data, model and files differ',
    'download-failed': 'a file could not be downloaded',
    'export-differs': 'an exported file does not compute what PyTorch computes',
    'export-unsupported': 'a part of the detector, or the installed torch, cannot be exported this way',
    'images-mismatch': 'the images of two files, or of data set and evaluator, differ',
    'launcher': 'workers were not started by the launcher that the command names',
    'missing-argument': 'a command needs one more argument',
    'missing-file': 'a file or a folder does not exist',
    'missing-package': 'a package that this command needs is not installed, or too old',
    'no-device': 'the device does not exist or cannot be used',
    'output-exists': 'the command would overwrite a file',
    'output-failed': 'a result cannot be written',
    'resume-mismatch': 'a training cannot be resumed with this config',
    'settings-mismatch': 'two settings of the config do not fit together',
    'unknown-setting': 'the config has a setting, or a part, that nothing reads',
    'unknown-type': 'the config names a type that is not registered',
    'untrusted-checkpoint': 'a checkpoint holds objects that could run code',
    'unsupported-decoder': 'the decoder of this config does not offer what the command needs',
    'worker-failed': 'another worker or process ended with an error',
}


class UsageError(ValueError):
    """Wrong input from the user: config, annotation, image, checkpoint or argument.

    The text is one line: the message, and the code in brackets. The commands print it without a traceback.

    Args:
        message (str): What is wrong, where, and how to fix it.
        code (str): What kind of error it is, a key of ``CODES``. It is empty only if PyTorch raises the error
            of a loader worker again: the message then contains the whole text.
    """

    def __init__(self, message: str, code: str = '') -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return f'{self.message} [{self.code}]' if self.code else self.message


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
    """A loss or a matching cost is NaN or infinite: the other error that commands print in one line."""
