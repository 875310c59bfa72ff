"""The errors a caller can act on. All are `ValueError`s, so code that catches those keeps working."""


class EdgeTAMError(ValueError):
    """What was given cannot be used; the message says what was expected and what to do."""


class ConfigError(EdgeTAMError):
    """A configuration, recipe or option that cannot be used."""


class CheckpointError(EdgeTAMError):
    """A file that is not the checkpoint it should be."""


class OutputError(EdgeTAMError):
    """A file or folder that cannot be written, or would replace something."""


class PromptError(EdgeTAMError):
    """Points, boxes or masks that make no sense for the image or video at hand."""


class TrainingError(EdgeTAMError):
    """A training run that cannot start, or cannot continue."""


class FrameError(EdgeTAMError):
    """Images, videos or datasets that cannot be read, or do not fit together."""


class ExportError(EdgeTAMError):
    """A network that cannot be exported as asked, or exported files that do not fit together."""
