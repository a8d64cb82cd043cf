"""Installs the plugin as ``deqdet``."""

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
version = re.search(r"__version__ = '(.+)'", (ROOT / 'projects/deqdet/__init__.py').read_text())[1]
packages = [
    'deqdet' + ''.join(f'.{part}' for part in init.parent.relative_to(ROOT / 'projects/deqdet').parts)
    for init in sorted((ROOT / 'projects/deqdet').rglob('__init__.py'))
]


class BuildWithConfigs(build_py):
    """Puts configs and model index where ``mim`` looks for them, as mmdet does: below ``deqdet/.mim``.

    An editable installation has them in its checkout.
    """

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'deqdet' / '.mim'
        # Of an earlier build.
        shutil.rmtree(target, ignore_errors=True)
        for folder in ('configs', 'projects/configs'):
            shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns('__pycache__'))
        for file in ('model-index.yml', 'README.md'):
            shutil.copy(ROOT / file, target / file)


setup(
    name='deqdet',
    version=version,
    description='Deep equilibrium object detector (ICCV 2023) as a plugin of mmdetection',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=packages,
    package_dir={'deqdet': 'projects/deqdet'},
    cmdclass={'build_py': BuildWithConfigs},
    # torch, mmengine, mmcv and mmdet are not named here: two families of packages provide the last
    # three under the same import names, and an installed torch must not be replaced. See `extras`.
    install_requires=['numpy', 'scipy', 'pycocotools'],
    extras_require={
        'onedl': [
            'torch>=2.5', 'onedl-mmengine>=0.10.12', 'onedl-mmcv>=2.3.6', 'onedl-mmdetection>=3.5.1'
        ],
        # mmcv comes as mmcv (compiled) or mmcv-lite (without operators), which must not meet: the
        # user chooses one.
        'openmmlab': ['torch>=2.5', 'mmengine>=0.10.7', 'mmdet>=3.3', 'numpy<2'],
        # Checkpoints in that format.
        'safetensors': ['safetensors'],
        # tools/export.py writes with the first two and checks with the third.
        'export': ['onnx', 'onnxscript', 'onnxruntime'],
    })
