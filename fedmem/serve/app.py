"""The API: routes from a request to the engine and back, and the files of the page."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from fedmem.serve import schemas as s
from fedmem.serve.departures import departures
from fedmem.serve.engine import Engine, NotHere, search
from fedmem.serve.exposure import exposure
from fedmem.serve.files import add_page
from fedmem.serve.guard import Access, Guard
from fedmem.serve.metrics import Metrics
from fedmem.serve.model import Asker, ServedModel
from fedmem.serve.new_items import Encoders, make_new_items
from fedmem.serve.pictures import Pictures
from fedmem.serve.refusals import add_refusals
from fedmem.serve.views import Views

T = TypeVar("T")
LOOK_EVERY = 1.0
"""Seconds between two looks for a new checkpoint."""
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": s.Refusal, "description": "A token is needed"},
    403: {"model": s.Refusal, "description": "Asked by another name, or by another site"},
    404: {"model": s.Refusal, "description": "Not known at this node"},
    413: {"model": s.Refusal, "description": "Too large"},
    422: {"model": s.Refusal, "description": "Cannot be answered; the detail says why"},
}


@dataclass
class Desk:
    """All that an app needs to answer.

    Attributes:
        engine: what is served.
        titles: of items, by their own ids.
        pictures: of items; None: cards are drawn.
        encoders: of new items.
        run: folder of the run that trained the checkpoint, where it is here.
        node: folder that a real node keeps as its own.
        look_every: seconds between two looks for a new checkpoint.
    """

    engine: Engine
    titles: Mapping[str, str] = field(default_factory=dict)
    pictures: Pictures | None = None
    encoders: Encoders = field(default_factory=Encoders)
    run: Path | None = None
    node: Path | None = None
    look_every: float = LOOK_EVERY
    _shown: tuple[ServedModel, Views] | None = None

    def views(self, served: ServedModel) -> Views:
        """How the items of this model are shown; kept until another is served."""
        shown = self._shown  # read and replaced whole: threads share it
        if shown is None or shown[0] is not served:
            shown = self._shown = served, Views(served, self.titles, self.pictures)
        return shown[1]

    def recommend(self, asked: s.RecommendRequest) -> dict[str, Any]:
        """What `POST /recommend` answers, as JSON has it.

        Raises:
            FedmemError: somebody or something is not known here, or a new item cannot be ranked.
        """
        served = self.engine.served
        askers = self._askers(served, asked)
        new = make_new_items(served, self.encoders, asked.new_items) if asked.new_items else None
        answers = self.engine.answer(served, askers, asked.top_k, new, asked.explain)
        views = self.views(served)
        response = s.RecommendResponse(
            stage=served.stage.name,
            checkpoint=served.hash,
            results=[views.result(answer, asked.new_items) for answer in answers],
        )
        return response.model_dump(mode="json")

    def _askers(self, served: ServedModel, asked: s.RecommendRequest) -> list[Asker]:
        if asked.user is not None:
            return [self.engine.of_user(served, asked.user, asked.exclude)]
        histories = asked.histories or [asked.history or []]
        people = [self.engine.person_of(served, own, asked.exclude) for own in histories]
        return served.of_people(people)


def make_app(desk: Desk, access: Access) -> FastAPI:
    """The API and the page; whoever may not ask is refused before either."""
    engine, metrics = desk.engine, Metrics()
    # One thread computes: torch keeps threads of its own for every one that calls it.
    pool = ThreadPoolExecutor(1, thread_name_prefix="serve")

    async def computed(function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, function, *args)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        watcher = threading.Thread(target=engine.watch, args=(stop, desk.look_every), daemon=True)
        watcher.start()
        yield
        stop.set()
        watcher.join()
        pool.shutdown()

    app = FastAPI(
        title="fedmem",
        summary="Recommendations on the device where the history is.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=REFUSALS,
    )
    app.add_middleware(Guard, access=access, metrics=metrics)
    add_refusals(app)
    add_page(app)

    @app.post("/recommend", response_model=s.RecommendResponse)
    async def recommend(asked: s.RecommendRequest) -> Response:
        """The best items for a user, a history, or each of several histories."""
        return JSONResponse(await computed(desk.recommend, asked))

    @app.get("/users")
    async def users(
        search_for: Annotated[str, Query(alias="search", max_length=200)] = "",
    ) -> s.Users:
        """Who lives at this node: an application, or the page, chooses among them."""
        served = engine.served
        ids = list(served.user_indices.items())
        chosen = [pair for pair in ids if search_for.strip().casefold() in pair[0].casefold()]
        chosen.sort(key=lambda pair: len(pair[0]) if search_for else 0)
        lengths = served.node.interactions.lengths
        return s.Users(
            total=len(ids),
            users=[s.UserSummary(id=own, items=int(lengths[user])) for own, user in chosen[:50]],
        )

    @app.get("/users/{user}")
    async def history(user: str) -> s.UserHistory:
        """A user's history."""
        served = engine.served
        items = served.node.interactions.history(engine.index_of(served, user))
        views = desk.views(served)
        return s.UserHistory(id=user, items=[views.item(item) for item in items.tolist()])

    @app.get("/memory/{user}")
    async def memory(user: str) -> s.MemoryView:
        """What a user's memory holds, and why each entry was kept."""
        served, items, account = await computed(engine.account, user)
        return desk.views(served).memory(user, len(items), account)

    @app.delete("/users/{user}/items/{item:path}")
    async def forget(user: str, item: str) -> s.Forgotten:
        """Remove an item from a user's history and memory on the disk, for good."""
        # Not where all others wait: a checkpoint may just be taken over.
        gone, rewritten, deleted = await asyncio.to_thread(engine.forget, user, item)
        return s.Forgotten(
            user=user,
            item=item,
            interactions=gone,
            memories_rewritten=rewritten,
            remainders_deleted=deleted,
            says=_said_of_forgetting(rewritten, deleted),
        )

    @app.get("/users/{user}/exposure")
    async def exposed(user: str) -> s.Exposure:
        """What one upload of stage 1 would give away of this user's history."""
        served = engine.served
        index = engine.index_of(served, user)
        return await computed(exposure, served.node, served.checkpoint.parameters, index)

    @app.get("/items")
    async def items(
        search_for: Annotated[str, Query(alias="search", max_length=200)] = "",
    ) -> list[s.Item]:
        """Items of the catalogue by words of their title, or by id."""
        served = engine.served
        views = desk.views(served)
        known = [(own, desk.titles.get(own, "")) for own in served.item_ids[1:]]
        return [views.item(served.item_indices[own]) for own, _ in search(known, search_for)]

    @app.get("/items/{item:path}/picture", response_class=Response)
    async def picture(item: str) -> Response:
        """An item's picture, small."""
        found = None
        if desk.pictures is not None and item in engine.served.item_indices:
            found = await computed(desk.pictures.shown, item)
        if found is None:
            raise NotHere(f"There is no picture of item {item}.")
        return Response(
            found, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"}
        )

    @app.get("/device")
    async def device() -> s.Departures:
        """What left this device: rounds, bytes, parts of the model, and what was spent of ε."""
        return await computed(departures, desk.run, desk.node, engine.served)

    @app.get("/health")
    async def health() -> s.Health:
        """What is served."""
        return _health(desk)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def figures() -> PlainTextResponse:
        """Figures of the server for Prometheus."""
        gauges = {
            "fedmem_checkpoint_round": (
                "Round that is served.",
                float(engine.served.checkpoint.round),
            ),
            "fedmem_reloads": ("Checkpoints taken over since the start.", float(engine.reloads)),
            "fedmem_checkpoint_refused": (
                "Whether the newest checkpoint could not be taken over.",
                float(bool(engine.trouble)),
            ),
        }
        return PlainTextResponse(metrics.text(gauges))

    return app


def _health(desk: Desk) -> s.Health:
    from fedmem.core.model.new_items import places_new_items

    served = desk.engine.served
    return s.Health(
        status="ok",
        stage=served.stage.name,
        round=served.checkpoint.round,
        checkpoint=served.hash,
        users=len(served.residents),
        items=served.node.interactions.num_items,
        reloads=desk.engine.reloads,
        trouble=desk.engine.trouble,
        titles=bool(desk.titles),
        pictures=desk.pictures is not None,
        text_encoder=desk.encoders.text is not None,
        picture_encoder=desk.encoders.picture is not None,
        new_items=places_new_items(served.stage, served.node.settings.model),
    )


def _said_of_forgetting(rewritten: int, deleted: int) -> list[str]:
    on_disk = "the memory kept on this disk was" if rewritten == 1 else "no memory was"
    if rewritten > 1:
        on_disk = f"{rewritten} memories kept on this disk were"
    return [
        "It is gone from your history: nothing at this node reads it again, also after a restart.",
        f"The memory was filled anew without it; {on_disk} rewritten.",
        *(["What rounding had kept back of earlier updates was deleted."] if deleted else []),
        "Training goes on without it from the next round.",
        "What earlier rounds sent cannot be recalled, nor what the shared model learned of it.",
        "The file that your history came from is yours and was not changed.",
    ]
