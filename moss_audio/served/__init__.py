"""A MOSS-Audio behind a server: vLLM, SGLang, this program's own, or anything that speaks like them.

    from moss_audio.served import ServedBackend

    backend = ServedBackend("http://gpu-box:8000/v1")
    print(backend.check())

What each server needs on its command line is in docs/serving.md.
"""

from moss_audio.served.served_backend import Served, ServedBackend

__all__ = ["Served", "ServedBackend"]
