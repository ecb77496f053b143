"""Hypothesis draws the same examples every time in CI, and new ones elsewhere."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("unit", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("unit")
