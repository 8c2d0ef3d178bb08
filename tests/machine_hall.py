"""Records of machines in a factory hall: what clause by clause comparison is tested on."""

from __future__ import annotations

THINGS = ["belt", "pump", "mill", "oven", "press", "drill", "crane", "lift", "saw", "robot", "valve", "fan"]
GOOD = [
    "{} started its shift on time",
    "{} was oiled by the crew of hall two",
    "{} reports a steady load of {n} percent",
    "parts for {} were delivered to the dock",
    "{} finished {n} pieces without a stop",
]
BAD = ["{} seal ruptured and oil was lost", "emergency stop: {} is on fire", "{} motor failed and burned"]
FAULT = "chimney motor failed and burned"
