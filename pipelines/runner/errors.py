"""What can stop a run, one class for each thing that a caller can do about it.

Exception
  RunStopped         the work is not at fault: mend the engine or the disk, run it again
  ModelUnavailable   a model cannot be opened: install it, or change the recipe
                     (pipelines/engines/errors.py)
  TooManyFailed      the rows are at fault: look at them, or raise max_failed
  RecipeError        the recipe (or an argument) is at fault: change it   (pipelines/recipe.py)
  ConservationError  a stage is at fault                                  (conservation.py)
"""


class RunStopped(Exception):
    """The run cannot go on now. Nothing was failed, nothing is lost; the same command goes on."""


class TooManyFailed(Exception):
    """More rows failed than `max_failed` allows. Verdicts are stored, exports are not written."""
