"""MOSS-Audio: the audio-understanding model, usable alone.

The model itself is not in this room yet. What is here is the seam through which the rest of the
program will reach it.
"""

from moss_audio.listener import Listener

__all__ = ["Listener"]
