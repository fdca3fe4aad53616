"""Fixtures for every test. Keep it small: helpers of one area live in its folder."""

import pytest


@pytest.fixture(scope="session")
def real_media():
    """Return {name: path} of small real videos and recordings, fetched by pip into the user's cache.

    Names: speech.mp4 (two faces, one talks), passenger.mp4 (no sound), woman.mp4, smile.mp4,
    leaving.mov, coming.mov, nobody.mp4 (no face), dialogue.wav. Skips where no registry can be reached;
    mark the test ``real_media``.
    """
    from pipelines.demo.real_media import MediaNotFetchedError, fetch_media

    try:
        return fetch_media()
    except (MediaNotFetchedError, OSError) as error:
        pytest.skip(f"no real media: {error}")


@pytest.fixture(scope="session")
def any_media(tmp_path_factory):
    """Return what `real_media` does, or generated stand-ins of the same names where it is not to be had."""
    from pipelines.demo.generated_media import generate_media
    from pipelines.demo.real_media import MediaNotFetchedError, fetch_media

    try:
        return fetch_media()
    except (MediaNotFetchedError, OSError):
        return generate_media(tmp_path_factory.mktemp("generated-media"))
