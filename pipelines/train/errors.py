"""Why a training does not start, or ends early.

Exception
  RecipeError          the config is wrong                    (pipelines/yaml_config.py)
  TrainingImpossible   the data, the folder or the machine does not allow it: change something
  TrainingStopped      it ran and cannot go on; its checkpoints are whole
"""


class TrainingImpossible(Exception):
    """Nothing was trained. The message says what to change."""


class TrainingStopped(Exception):
    """The training ended before its last step."""
