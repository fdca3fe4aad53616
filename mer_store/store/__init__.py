"""The store on disk: parts of features, committed whole, read by computed offset."""
