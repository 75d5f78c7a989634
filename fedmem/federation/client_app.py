"""The ClientApp: it runs at every node, in the simulation and in a real federation."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedmem.clients import CohortClient, UserClient
from fedmem.core.data.content import has_files
from fedmem.core.data.forgotten import read_forgotten
from fedmem.core.data.interactions import Split
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.outcomes import sums_of
from fedmem.core.memory.memory_store import memory_key
from fedmem.core.model.dropout import Dropout
from fedmem.core.model.item_start import content_rows
from fedmem.core.model.parameters import Parameters, content_hash, initial_parameters
from fedmem.core.node import Node
from fedmem.core.stages import Stage, find_stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.training.random_streams import Streams
from fedmem.core.transport.codec import Codec
from fedmem.core.transport.up import Remainders, code_update, drop_remainders
from fedmem.core.updates.filters import make_filters
from fedmem.core.updates.update import Update
from fedmem.federation import masking
from fedmem.federation.held_scope import scope_of
from fedmem.federation.kept_nodes import (
    frozen_store,
    node_at,
    node_of,
    own_folder,
    scope_store,
    settings_at,
)
from fedmem.federation.node_config import is_simulated
from fedmem.federation.node_memory import bring_memory
from fedmem.federation.node_promise import NodePromise, promise_of
from fedmem.federation.sent import note_sent
from fedmem.messaging.messages import (
    Description,
    EvaluateResult,
    ItemsHere,
    NeedsFrozen,
    NeedsScope,
    Task,
    from_array_record,
    update_to_record,
)
from fedmem.messaging.packing import answer_as_asked
from fedmem.messaging.traffic import payload_bytes

app = ClientApp(mods=[answer_as_asked])


def prepare() -> None:
    """Draw and drop a little: Numba looks up all it knows, half a second, at its first function."""
    noise = Streams(np.zeros((1, 1), np.uint32)).noise(np.ones(1, np.int64), [1])
    Dropout(0.5, noise)(torch.zeros(1, 1, 1))


def answer(message: Message, context: Context) -> tuple[Message, Context]:
    """What a simulated node makes of a message, and the context that it leaves."""
    return app(message, context), context


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Who lives here, and what they choose from."""
    node, widths, content = node_of(message, context), (0, 0), ""
    if message.content.config_records["about"]["content"]:
        widths = (node.content.visual.shape[1], node.content.text.shape[1])
        content = node.corpus.content_files
    description = Description(
        users=node.users.astype("int32"),
        num_items=node.interactions.num_items,
        catalogue=node.interactions.fingerprint,
        widths=widths,
        content=content,
    )
    return Message(description.to_record(), reply_to=message)


@app.query("novelty")
def novelty(message: Message, context: Context) -> Message:
    """The users' summed novelty histogram."""
    counts = ArrayRecord({"counts": Array(node_of(message, context).novelty_histogram())})
    return Message(RecordDict({"histogram": counts}), reply_to=message)


@app.query("items")
def items(message: Message, context: Context) -> Message:
    """How often items are seen here, and the hash of their content."""
    return Message(_items_here(message, context).to_record(), reply_to=message)


@app.query("items_with_rows")
def items_with_rows(message: Message, context: Context) -> Message:
    """The same, with the rows that the items' content makes of an item table."""
    here, node = _items_here(message, context), node_of(message, context)
    rows = content_rows(node.content, node.settings.model)
    return Message(replace(here, rows=rows).to_record(), reply_to=message)


@app.query("offer_keys")
def offer_keys(message: Message, context: Context) -> Message:
    """Step 1 of a secure sum."""
    return Message(masking.offer_keys(message, context), reply_to=message)


@app.query("share_secrets")
def share_secrets(message: Message, context: Context) -> Message:
    """Step 2 of a secure sum."""
    return Message(masking.share_secrets(message, context), reply_to=message)


@app.query("reveal_shares")
def reveal_shares(message: Message, context: Context) -> Message:
    """Step 4 of a secure sum."""
    return Message(masking.reveal_shares(message, context), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the task's users, and answer as it is or, in step 3 of a secure sum, under masks."""
    task = Task.from_record(message.content)
    client = _client(task, context)
    if isinstance(client, RecordDict):
        return Message(client, reply_to=message)
    promise = _promise(client, task, context)
    masks = masking.masking_of(message, context, promise)
    if promise is not None:
        client.users = promise.drawn(client.users)
    if client.stage.memory:
        bring_memory(client, "validation", task, context)
    filters = make_filters(client.node.settings, hints=task.hints)
    update = client.train(task.round, filters)
    if masks is not None:
        assert task.users is not None
        record = masks.answer(update, client.node.settings.seed, int(task.users[0]), promise)
    else:
        record = _as_sent(update, client, task, context)
    numbers = sum(value.numel() for value in update.change.values())
    trained = update.users if promise is None else len(client.users)
    _note(record, "train", task, context, users=trained, parameters=numbers)
    return Message(record, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Rank the held-out items of all users who live here."""
    task = Task.from_record(message.content)
    client = _client(task, context)
    if isinstance(client, RecordDict):
        return Message(client, reply_to=message)
    memory: dict[str, float] = {}
    promise = _promise(client, task, context)
    split = cast(Split, task.split)
    if client.stage.memory:
        bank = bring_memory(client, split, task, context)
        memory = {k: float(v) for k, v in vars(bank.statistics()).items()}
    outcomes = client.rank(split, task.rankings.split(","))
    # Whoever asks: no rank leaves a real node.
    ranks = outcomes if task.ranks and is_simulated(context.node_config) else {}
    sums = sums_of(outcomes)
    if promise is not None:
        sums, memory = promise.figures(sums), {}
    record = EvaluateResult(sums, memory, ranks).to_record()
    _note(record, "evaluate", task, context, users=len(client.users), parameters=0)
    return Message(record, reply_to=message)


def _items_here(query: Message, context: Context) -> ItemsHere:
    node = node_of(query, context)
    interactions = int(node.interactions.training_lengths[node.users].sum())
    known = has_files(node.settings.data)
    return ItemsHere(interactions, content_hash(vars(node.content)) if known else "")


def _client(task: Task, context: Context) -> UserClient | RecordDict:
    """A client whose model holds the task's parameters; or what of them is not here, as a reply.

    Raises:
        FedmemError: the server sent more or less than the stage's scope, or it is damaged.
    """
    stage = find_stage(task.stage)
    node = node_at(task.settings, context)
    scope, _ = stage.split(node.model(stage).state_dict())
    store = frozen_store(node.settings.output_dir)
    if task.frozen is not None:
        store.put(from_array_record(task.frozen))
    frozen = store.get(task.frozen_hash)
    held = scope_store(node.settings.output_dir)
    parameters = scope_of(task, held, node.settings, lambda: _fresh(node, stage))
    differing = set() if parameters is None else set(parameters) ^ set(scope)
    if differing:
        raise FedmemError(
            f"The server's message does not match the scope of {task.stage}: "
            + ", ".join(sorted(differing))
        )
    if frozen is None or parameters is None:
        lacking = {} if frozen is not None else NeedsFrozen(task.frozen_hash).to_record()
        more = {} if parameters is not None else NeedsScope(task.path[-1]).to_record()
        return RecordDict({**lacking, **more})
    node.load(stage, {**frozen, **parameters}, task.frozen_hash)
    kind = UserClient if len(node.users) == 1 else CohortClient
    return kind(node, stage, task.users)


def _promise(client: UserClient, task: Task, context: Context) -> NodePromise | None:
    settings = client.node.settings
    return promise_of(settings, task, context, own_folder(settings, context))


def _fresh(node: Node, stage: Stage) -> Parameters:
    """What a stage that inherits nothing starts from."""
    settings, items = node.settings, node.interactions.num_items
    return initial_parameters(settings.model, stage, items, (0, 0), settings.seed, {})


def _as_sent(update: Update, client: UserClient, task: Task, context: Context) -> RecordDict:
    """An update as `transport` has it travel."""
    settings, codec = client.node.settings, Codec(client.node.settings.transport)
    if codec.exact:
        return update_to_record(update)
    folder, forgotten = own_folder(settings, context), client.node.histories.forgotten
    remainders = None
    if codec.feedback:
        key = memory_key(settings, task.frozen_hash, task.stage)
        remainders = Remainders(folder, key, forgotten)
    round_key = RoundKey(settings.seed, task.stage, task.round)
    who = f"node of user {client.node.users[0]}"  # no two nodes share one
    coded = code_update(update, codec, round_key, who, remainders)
    if remainders is not None and read_forgotten(settings.data).digest != forgotten:
        drop_remainders(folder)  # it was asked for meanwhile
    return update_to_record(update, coded)


def _note(record: RecordDict, kind: str, task: Task, context: Context, **about: int) -> None:
    """Write down at a real node what it sends, for the people who live there."""
    if not is_simulated(context.node_config):
        settings = settings_at(task.settings, context)
        size = sum(payload_bytes(record).values())
        about = {"round": task.round, "bytes": size, **about}
        note_sent(own_folder(settings, context), {"kind": kind, "stage": task.stage, **about})
