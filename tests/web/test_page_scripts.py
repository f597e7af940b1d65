"""The page's scripts share one object; each name of it is given in one file."""

from __future__ import annotations

import re
from collections import Counter

from web.page.theme import SCRIPTS, STATIC


def test_no_two_scripts_give_the_same_name():
    given = Counter(
        name
        for script in SCRIPTS
        for name in set(re.findall(r"^(moss\.\w+) = ", (STATIC / script).read_text("utf-8"), re.MULTILINE))
    )
    assert len(given) > 30
    assert [name for name, count in given.items() if count > 1] == []
