"""How many threads torch uses, asked once.

Several places lower the number for a while. Each must put back the machine's own number, and not what another
had set just then.
"""

from __future__ import annotations

from functools import cache


@cache
def torch_threads() -> int:
    """Torch's number of threads as it was when first asked for; call it before setting another."""
    import torch

    return torch.get_num_threads()
