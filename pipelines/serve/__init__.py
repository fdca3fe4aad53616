"""A store seen over HTTP by those who have no bucket to share it by; nothing can be changed."""
