"""Visual features: find a clip's face, crop it, run a vision encoder over the crops."""
