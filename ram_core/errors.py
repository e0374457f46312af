"""What can go wrong in a model, so that a caller knows whose fault it was.

``ram_core`` imports nothing of the rest of the project; the workers map these classes in their table of errors.
"""


class ModelError(Exception):
    """Base of every error raised on purpose by ``ram_core``. The message says what to do."""


class UnknownModelError(ModelError):
    """A model was asked for by a name that is not in the registry."""


class CheckpointError(ModelError):
    """A checkpoint is missing, damaged, of another model, or its keys or shapes do not fit."""


class VocabularyError(ModelError):
    """A tag list, its Chinese names, thresholds or descriptions are missing or do not fit each other."""


class ImageError(ModelError):
    """An image cannot be given to a model, for example because one of its sides is zero pixels long."""


class DeviceError(ModelError):
    """The device or number format asked for is not available here."""


class FeaturesError(ModelError):
    """What was kept of an image is not what this model takes."""
