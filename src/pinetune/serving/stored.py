"""Models and memory out of the store: what the serving process of `pinetune serve` is mounted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pinetune.errors import NotFound
from pinetune.models.names import MINIATURE, find_model
from pinetune.serving.directory import Kept, KeptPage, Kind, Order, ServedModel
from pinetune.store import Store
from pinetune.store.folders import PREFIX
from pinetune.store.rows import Model, Reply
from pinetune.wire.errors import ApiProblem


class StoredModels:
    """See directory.ModelDirectory. "" as project sees everything: there are no keys then."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def resolve(self, model_id: str, project: str = "") -> ServedModel | None:
        try:
            return self._served(self._store.models.resolve(model_id, project or None))
        except NotFound:
            return None

    def list(self, project: str = "") -> Sequence[ServedModel]:
        return [self._served(model) for model in self._store.models.list(project or None)]

    def delete(self, model_id: str, project: str = "") -> bool:
        if model_id == MINIATURE:
            text = f"{MINIATURE} is part of the installation and cannot be deleted"
            raise ApiProblem(403, text, code="model_not_deletable", param="model")
        try:
            model = self._store.models.delete(model_id, project or None)
        except NotFound:
            return False
        self._store.folders.remove(model.location)
        return True

    def _served(self, model: Model) -> ServedModel:
        facts = {"created": int(model.created_at), "owned_by": model.owned_by}
        place = self._place(model.location)
        if model.kind != "adapter" or model.base is None:
            return ServedModel(model.id, place, **facts)  # type: ignore[arg-type]
        base = self._store.models.resolve(model.base)  # whoever may call an adapter may call it on its base
        return ServedModel(model.id, self._place(base.location), place, **facts)  # type: ignore[arg-type]

    def _place(self, location: str) -> str:
        return str(self._store.folders.path(location)) if location.startswith(PREFIX) else find_model(location)


class StoredReplies:
    """See directory.Memory."""

    def __init__(self, store: Store) -> None:
        self._replies = store.replies

    def save(self, kept: Kept, project: str = "") -> None:
        try:
            self._replies.update(kept.id, project, body=kept.body, metadata=kept.metadata)
        except NotFound:
            self._replies.add(
                project, kept.kind, kept.body,
                input=kept.input, request=kept.request, metadata=kept.metadata, previous_id=kept.previous_id,
            )  # fmt: skip

    def get(self, kind: Kind, record_id: str, project: str = "") -> Kept | None:
        try:
            return _kept(self._replies.get(record_id, project, kind))
        except NotFound:
            return None

    def list(
        self,
        kind: Kind,
        project: str = "",
        *,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
    ) -> KeptPage:
        page = self._replies.list(project, kind, model=model, metadata=metadata or {}, after=after, limit=limit, order=order)
        return KeptPage([_kept(reply) for reply in page.items], page.has_more)

    def delete(self, kind: Kind, record_id: str, project: str = "") -> bool:
        try:
            self._replies.delete(record_id, project, kind)
        except NotFound:
            return False
        return True


def _kept(reply: Reply) -> Kept:
    kind: Kind = "response" if reply.kind == "response" else "chat.completion"
    return Kept(
        id=reply.id,
        kind=kind,
        created=int(reply.created_at),
        model=reply.model,
        body=reply.body,
        input=reply.input,
        request=reply.request,
        metadata=reply.metadata,
        previous_id=reply.previous_id,
    )
