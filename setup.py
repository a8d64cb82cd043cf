"""What pyproject.toml cannot say: where the packages are, and what else comes with a wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
packages = [
    'deqdet' + ''.join(f'.{part}' for part in init.parent.relative_to(ROOT / 'projects/deqdet').parts)
    for init in sorted((ROOT / 'projects/deqdet').rglob('__init__.py'))
]
# Of use in a checkout only.
LEFT_OUT = ('__pycache__', 'docs', 'check_python.py', 'demo.sh', 'montage.py')


class BuildWithConfigs(build_py):
    """Puts configs, tools and model index where ``mim`` looks for them, as mmdet does: below ``deqdet/.mim``.

    An editable installation has them in its checkout.
    """

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'deqdet' / '.mim'
        # Of an earlier build.
        shutil.rmtree(target, ignore_errors=True)
        for folder in ('configs', 'projects/configs', 'tools'):
            shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for file in ('model-index.yml', 'README.md'):
            shutil.copy(ROOT / file, target / file)


setup(packages=packages, py_modules=['deqdet_command', 'deqdet_path'], package_dir={'': 'projects'},
      cmdclass={'build_py': BuildWithConfigs})
