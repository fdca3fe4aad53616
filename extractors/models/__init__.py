"""Pre-trained models as extractors and trainers both need them: checkpoints, speech blocks. No media."""
