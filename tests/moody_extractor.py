"""The fake extractor, in a mood that the environment of its process sets.

``UNFIT``: its weights do not load. ``SLOW``: seconds for each clip.
"""

import os
import time

from fake_extractor import FakeExtractor

from mer_store.errors import UsageError


class MoodyExtractor(FakeExtractor):
    batch_limit = 20

    def __call__(self, batch, want):
        if "UNFIT" in os.environ:
            raise UsageError("model fake: no weights in this folder")
        time.sleep(float(os.environ.get("SLOW", "0")) * len(batch))
        return super().__call__(batch, want)
