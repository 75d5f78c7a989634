"""Flower clients: one user, or the cohort of users that one node trains together."""

from clients.cohort_client import CohortClient
from clients.user_client import UserClient

__all__ = ["CohortClient", "UserClient"]
