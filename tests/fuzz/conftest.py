"""How hard to try: `HYPOTHESIS_PROFILE=long` draws anew and a hundred times as much; the default is the same always."""

import os

from hypothesis import HealthCheck, settings

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}

settings.register_profile("quick", derandomize=True, max_examples=60, database=None, **COMMON)
settings.register_profile("long", max_examples=6000, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
