"""The outside world: sound files, model files, downloads."""
