"""What holds for all tests."""

from hypothesis import settings

# Examples are cheap, but on a busy machine a single one may still take long.
settings.register_profile("winnow", deadline=None)
settings.load_profile("winnow")
