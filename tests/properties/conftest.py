"""Laws are checked without a time limit per example: a loaded machine is not a counter-example."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
