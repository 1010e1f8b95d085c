"""The version string that `/setup` and every prediction carry (protocol notes §1.4).

Label Studio asks again exactly when the string changes, so it must follow from everything
that changes masks, and from nothing else.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

NO_EVIDENCE = "none"  # nothing learnt from corrections


def model_version(*, profile: str, method: str, facts: Mapping[str, Any]) -> str:
    """Readable prefix and a digest of `facts` (plain JSON values): `demo-cliper-1a2b3c4d`.

    Equal facts give equal strings on every machine; the order of keys does not matter.
    """
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:8]
    return f"{profile}-{method}-{digest}"
