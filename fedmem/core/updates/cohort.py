"""A node's update: the mean of its users' updates, through the filters at the user and the node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from fedmem.core.arrays import UserIndices
from fedmem.core.training.batches import RoundKey
from fedmem.core.training.trainer import LocalTrainer
from fedmem.core.updates.filter import UpdateFilter
from fedmem.core.updates.update import Update, UserUpdates, mean


def train_cohort(
    trainer: LocalTrainer, users: UserIndices, key: RoundKey, filters: Sequence[UpdateFilter] = ()
) -> Update:
    """The weighted mean of `LocalTrainer.train_user` over users, less those that filters drop.

    Users train as one batch where that is the same and every filter trusts what comes of it; else
    by `train_each_user`, so that filters, which are made for each message, see each of them.
    """
    if trainer.execution == "batched" and not any(each.sees_each_user for each in filters):
        update = trainer.train_batch(users, key)
        if all(each.trusts(update) for each in filters):
            return _at_node(update, filters)
    return train_each_user(trainer, users, key, filters)


def train_each_user(
    trainer: LocalTrainer, users: UserIndices, key: RoundKey, filters: Sequence[UpdateFilter] = ()
) -> Update:
    """The same, with each user's update seen by the filters."""
    dropped: set[int] = set()

    def passed(chosen: UserIndices) -> Iterator[UserUpdates]:
        for updates in trainer.train_each(chosen, key):
            kept = reduce(lambda those, each: each.at_user(those), filters, updates)
            dropped.update(set(updates.users.tolist()) - set(kept.users.tolist()))
            yield kept

    update = mean(passed(users), trainer.scope)
    outliers = {user for each in filters for user in each.outliers()}
    if outliers:
        # They could be subtracted again, but not the digits that they rounded away.
        dropped |= outliers
        update = mean(passed(np.setdiff1d(users, list(dropped))), trainer.scope)
    update = replace(update, users=len(users) - len(dropped), left_out=len(dropped))
    return _at_node(update, filters)


def _at_node(update: Update, filters: Sequence[UpdateFilter]) -> Update:
    return reduce(lambda mean, each: each.at_node(mean), filters, update)
