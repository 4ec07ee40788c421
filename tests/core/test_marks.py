"""Which tests are slow is a list of files in conftest.py: each of them must be there, or the list marks nothing."""

from pathlib import Path

import conftest


def test_every_slow_file_is_there():
    stems = {path.stem for path in Path(conftest.__file__).parent.rglob("test_*.py")}
    assert set(conftest.SLOW) <= stems


def test_marks_are_set(request):
    """This file is not slow; what stands in the list is (of what has been collected with it)."""
    assert request.node.get_closest_marker("slow") is None
    for item in request.session.items:
        assert (item.get_closest_marker("slow") is not None) >= (item.path.stem in conftest.SLOW)
