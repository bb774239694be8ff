"""preprov for Prefect: reserve warm capacity, wait for it, give it back."""

from prefect_preprov.capacity import on_warm_capacity, reservation, warm_capacity, warm_capacity_async
from prefect_preprov.client import CapacityTimeout, PreprovError, PreprovUnavailable, Reservation, ReservationVoid
from prefect_preprov.credentials import PreprovCredentials

__version__ = "0.1.0"

__all__ = [
    "CapacityTimeout",
    "PreprovCredentials",
    "PreprovError",
    "PreprovUnavailable",
    "Reservation",
    "ReservationVoid",
    "on_warm_capacity",
    "reservation",
    "warm_capacity",
    "warm_capacity_async",
]
