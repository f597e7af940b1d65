"""``python -m moss_audio FILE``."""

from moss_audio.cli import main

main()
