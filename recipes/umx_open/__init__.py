"""The weights `umx-open`: data, training, export and scores."""
