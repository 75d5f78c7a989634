"""Flower clients: one user, or the cohort of users that one node trains together."""

from fedmem.clients.cohort_client import CohortClient
from fedmem.clients.user_client import UserClient

__all__ = ["CohortClient", "UserClient"]
