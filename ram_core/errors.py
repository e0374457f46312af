"""Errors of models. Their classes tell a caller who is at fault.

``ram_core`` imports nothing from the rest of the project. The workers map these classes in their table of errors.
"""


class ModelError(Exception):
    """Base of every error that ``ram_core`` raises on purpose. The message says what to do."""


class UnknownModelError(ModelError):
    """The requested model name is not in the registry."""


class CheckpointError(ModelError):
    """A checkpoint is missing, damaged or of another model, or its keys or shapes do not fit."""


class VocabularyError(ModelError):
    """A tag list, its Chinese names, thresholds or descriptions are missing or do not match each other."""


class ImageError(ModelError):
    """An image cannot be given to a model, for example because one of its sides is zero pixels long."""


class UnreadableImageError(ImageError):
    """Bytes cannot be decoded as an image.

    Args:
        reason: ``not_an_image``, ``unsupported``, ``truncated``, ``corrupt``, ``too_large`` or ``no_page``.
        message: what is wrong.
        pages: how many pages the file has, as far as that is known.
    """

    def __init__(self, reason: str, message: str, pages: int = 1) -> None:
        super().__init__(message)
        self.reason = reason
        self.pages = pages


class DeviceError(ModelError):
    """The requested device or number format is not available here."""


class TrainingError(ModelError):
    """A batch, a data set or an option does not fit the training."""


class TrainingStoppedError(TrainingError):
    """Somebody asked the training to stop. Its state is saved, and it can go on from there."""


class FeaturesError(ModelError):
    """The stored features of an image are not those that this model takes."""


class CleaningError(ModelError):
    """A setting of cleaning is out of its range, or the features or labels to be cleaned do not fit each other."""
