"""HTTP requests for tests. They wait as long as tests do, because the five seconds of httpx are too short on a busy machine."""

from __future__ import annotations

from functools import partial

import httpx

from tests.support.waiting import PATIENCE

get = partial(httpx.get, timeout=PATIENCE)
post = partial(httpx.post, timeout=PATIENCE)
delete = partial(httpx.delete, timeout=PATIENCE)
