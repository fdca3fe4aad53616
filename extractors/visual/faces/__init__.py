"""From a clip to one person's face crops: detect, track, choose, align."""
