"""Why a model cannot be used.

Exception
  EngineError          the engine is gone or out of memory (stages/engines.py)
    ModelUnavailable   it cannot be opened as things are: install something, or change the recipe
"""

from stages.engines import EngineError


class ModelUnavailable(EngineError):
    """A model is not there, is not what it should be, or lacks its library. Says what to do."""
