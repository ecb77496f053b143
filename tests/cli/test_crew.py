"""Masters and workers as child processes: what is said when they can't start."""

import os

import pytest

from mrq.crew import Crew
from mrq.errors import MrqError


def test_a_child_that_ends_at_once_is_an_error_that_quotes_it() -> None:
    with (
        Crew(lambda _role: (), os.environ | {"MRQ_SLOTS": "none"}) as crew,
        pytest.raises(MrqError) as caught,
    ):
        crew.complete(masters=0, workers=1)
    assert "-worker-0 ended with exit code 2: mrq: wrong settings: slots" in str(caught.value)


def test_where_some_are_registered_none_is_started() -> None:
    with Crew(lambda _role: ("somebody",), {}) as crew:
        assert crew.complete(masters=1, workers=2) == []
