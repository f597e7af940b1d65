"""From a media file to samples, speech and windows."""
