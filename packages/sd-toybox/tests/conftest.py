"""A model of the smallest sizes, made once."""

import pytest

from untrained_models import save_untrained


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """To read and not to change."""
    return save_untrained(tmp_path_factory.mktemp("toybox") / "model")
