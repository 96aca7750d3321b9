"""Shared by all tests."""

from hypothesis import settings

# repeatable, and without deadlines: timings belong to `ccnet bench`
settings.register_profile("ccnet", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("ccnet")
