"""Server strategies: federated averaging within a stage's scope."""

from fedmem.strategies.server_optimizer import ServerOptimizer
from fedmem.strategies.stage_fedavg import StageFedAvg

__all__ = ["ServerOptimizer", "StageFedAvg"]
