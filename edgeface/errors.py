"""The error tree: every error an operator can meet is one line and knows its exit code."""


def one_line(error: BaseException) -> str:
    """An error's text without its line breaks."""
    return " ".join(str(error).split())


class EdgefaceError(Exception):
    """Anything that ends the program in a way we can explain. The text is one line."""

    exit_code = 1


class ConfigError(EdgefaceError):
    """The configuration asks for something that cannot be: restarting will not help."""

    exit_code = 78


class EngineError(EdgefaceError):
    """An engine or its card is unusable: restarting will not help."""

    exit_code = 70


class OutputError(EngineError):
    """One inference gave numbers that mean nothing (NaN, infinity): this frame was not looked at."""


class SourceError(EdgefaceError):
    """A file or a sequence of pictures cannot be read."""


class CameraError(EdgefaceError):
    """A camera needs a reset from outside; starting again later may help."""

    exit_code = 75


class EndOfStream(EdgefaceError):
    """The file has ended: not a fault."""

    exit_code = 0


class DeviceError(EdgefaceError):
    """The GPU is not there, has no memory left or does not answer: starting again may help."""


class DeviceLostError(DeviceError):
    """The GPU failed in mid-run: nothing on it can be used, or even given back, until the process has ended."""
