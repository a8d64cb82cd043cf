import shutil

import pytest
from data.doctor.pets import Pets, write_pets


@pytest.fixture(scope='session')
def clean_pets(tmp_path_factory):
    """The clean set, made once."""
    return write_pets(tmp_path_factory.mktemp('clean') / 'pets')


@pytest.fixture
def pets(clean_pets, tmp_path):
    """A copy of the clean set, for planting faults."""
    return Pets(shutil.copytree(clean_pets, tmp_path / 'pets'))
