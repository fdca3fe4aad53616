"""The demo: a small real corpus, and the page that shows what became of it."""
