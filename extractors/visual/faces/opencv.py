"""OpenCV, imported late and with an error that says what is missing."""

from types import ModuleType

from mer_store.errors import UsageError


def opencv() -> ModuleType:
    """Return the module ``cv2``.

    Raises
    ------
    UsageError
        It cannot be imported; the text names the package to install.
    """
    try:
        import cv2
    except ImportError as error:
        raise UsageError(
            f"OpenCV cannot be imported: {error}. Expected the package opencv-python and the "
            "system libraries libGL.so.1 and libglib-2.0.so.0; on Debian: "
            "apt-get install libgl1 libglib2.0-0"
        ) from error
    return cv2
