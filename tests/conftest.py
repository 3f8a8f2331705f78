from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "project",
    deadline=None,
    # A change is to be judged by what it changes: who looks for new examples sets TEST_EXAMPLES.
    derandomize="TEST_EXAMPLES" not in os.environ,
    # They judge how fast a busy machine generates inputs, not this project's code.
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("project")
