"""Scenes with one real face (Eileen Collins, a NASA picture that scikit-image carries) placed at will."""

from functools import cache

import cv2
import numpy as np
import skimage.data
from media_factory import make_video

from extractors.media.blob import read_blob
from extractors.media.images import Image

#: Where the face lies in the portrait below, as parts of its side: its box's centre and height.
BOX_HEIGHT = 0.62


@cache
def portrait():
    """Return uint8 [192, 192, 3]: head and shoulders' beginning."""
    return np.ascontiguousarray(skimage.data.astronaut()[22:214, 130:322])


def scene(faces, width=320, height=240):
    """Return uint8 [height, width, 3]: grey, with a portrait at each (left, top, side[, mirrored])."""
    image = np.full((height, width, 3), 110, np.uint8)
    for left, top, side, *mirrored in faces:
        face = cv2.resize(portrait(), (side, side), interpolation=cv2.INTER_AREA)
        if mirrored and mirrored[0]:
            face = face[:, ::-1]
        image[top : top + side, left : left + side] = face
    return image


def video(path, images, fps=25):
    """Write images as a silent video and return its path."""
    images = np.stack(images)
    size = (images.shape[2], images.shape[1])
    return make_video(path, len(images) / fps, fps=fps, size=size, audio=False, images=images)


def blob(path):
    return read_blob("clip", path)


def timed(images, fps=25):
    """Return images as the decoder gives them."""
    return [Image(i / fps, image) for i, image in enumerate(images)]
