"""Server strategies: federated averaging within a stage's scope."""

from strategies.server_optimizer import ServerOptimizer
from strategies.stage_fedavg import StageFedAvg

__all__ = ["ServerOptimizer", "StageFedAvg"]
