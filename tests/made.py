"""Results that are kept, and what they were made with."""

import pytest
from gradgate import tools
from gradgate.errors import GradgateError


def skip_unless_made_with(versions):
    """Skip the test if the packages that build bitstreams are missing, or not of these versions:
    then what is made here may differ."""
    try:
        present = tools.versions()
    except GradgateError as error:
        pytest.skip(str(error))
    if present != versions:
        pytest.skip(f"made with {versions}, here are {present}")
