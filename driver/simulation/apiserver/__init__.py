"""An API server that speaks real Kubernetes HTTP for what a DRA driver touches.

It exists for the demo, the tests and the benchmarks, and for nothing else (see server.py). Its fidelity is checked
by replaying recorded traffic of a real server.
"""

from driver.simulation.apiserver.faults import Fault, Faults
from driver.simulation.apiserver.gates import FeatureGates, gates_of
from driver.simulation.apiserver.requests import User
from driver.simulation.apiserver.server import ApiServer, Options
from driver.simulation.apiserver.serving import Pace
from driver.simulation.apiserver.sources import Sources
from driver.simulation.apiserver.statuses import ApiError

__all__ = [
    "ApiError",
    "ApiServer",
    "Fault",
    "Faults",
    "FeatureGates",
    "Options",
    "Pace",
    "Sources",
    "User",
    "gates_of",
]
