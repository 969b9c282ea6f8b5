"""How often a law is tried: a few times in the quick suite, four times as often at length.

``pytest --hypothesis-profile slow -m "slow or hypothesis"`` runs the laws at length.
"""

from hypothesis import HealthCheck, settings

__all__ = ["examples", "register_profiles"]

# the number of examples of a law that has no number of its own
QUICK, SLOW = 10, 40


def register_profiles():
    """Register the profiles "quick", which is loaded, and "slow"."""
    shared = {"deadline": None, "suppress_health_check": list(HealthCheck)}
    settings.register_profile("quick", max_examples=QUICK, **shared)
    settings.register_profile("slow", max_examples=SLOW, **shared)
    settings.load_profile("quick")


def examples(n, **more):
    """Return the settings of a law that the quick suite tries with `n` examples."""
    return settings(max_examples=n * settings.default.max_examples // QUICK, **more)
