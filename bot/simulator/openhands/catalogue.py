"""What the server lists besides conversations: repositories, branches, models and itself."""

from bot.simulator.openhands.starts import DEFAULT_MODEL, Starts
from bot.simulator.openhands.state import Event
from bot.simulator.openhands.v1_starts import PROVIDERS
from bot.simulator.openhands.wire import Asked, Refused, Route, missing, not_one_of, opaque_offset, page, read_limit

MODELS = (
    ("openhands", "claude-sonnet-4-5", True),
    ("openhands", "gpt-5-2025-08-07", True),
    ("anthropic", "claude-opus-4-5", True),
    ("azure", "eu/gpt-4o-2024-08-06", False),
    ("azure", "eu/gpt-4o-2024-11-20", False),
    ("azure", "eu/gpt-4o-mini-2024-07-18", False),
)


def _provider(world: Starts, asked: Asked) -> str:
    provider = asked.one("provider")
    if provider is None:
        raise missing(["query", "provider"], None)
    if provider not in PROVIDERS:
        raise not_one_of(PROVIDERS, ["query", "provider"], provider)
    if provider not in connected(world):
        raise Refused(403, {"detail": "Git provider token required (such as GitHub)."})
    return provider


def connected(world: Starts) -> tuple[str, ...]:
    """Return the git providers that are connected."""
    return world.git_providers if world.providers else ()


async def repositories(world: Starts, asked: Asked) -> object:
    provider = _provider(world, asked)
    query = (asked.one("query") or "").lower()
    names = sorted(name for name in world.repositories or () if query in name.lower())
    shown: list[Event] = [
        {
            "id": str(number),
            "full_name": name,
            "git_provider": provider,
            "is_public": False,
            "stargazers_count": None,
            "link_header": None,
            "pushed_at": None,
            "owner_type": "organization",
            "main_branch": world.branches[0],
        }
        for number, name in enumerate(names, start=1)
    ]
    offset = opaque_offset(asked.one("page_id"))
    return page(shown, offset=offset, limit=read_limit(asked, default=100), opaque=True)


async def branches(world: Starts, asked: Asked) -> object:
    _provider(world, asked)
    repository = asked.one("repository")
    if repository is None:
        raise missing(["query", "repository"], None)
    query = (asked.one("query") or "").lower()
    names = [name for name in world.branches if query in name and world.can_open(repository)]
    shown: list[Event] = [
        {"name": name, "commit_sha": "0" * 40, "protected": False, "last_push_date": None} for name in names
    ]
    return page(shown, offset=0, limit=read_limit(asked, default=100), opaque=True)


async def models(world: Starts, asked: Asked) -> object:  # noqa: ARG001
    query = (asked.one("query") or "").lower()
    shown: list[Event] = [
        {"provider": provider, "name": name, "verified": verified, "hidden": False, "canonical": None}
        for provider, name, verified in MODELS
        if query in name.lower()
    ]
    offset = opaque_offset(asked.one("page_id"))
    return page(shown, offset=offset, limit=read_limit(asked, default=100), opaque=True)


async def me(world: Starts, asked: Asked) -> object:  # noqa: ARG001
    """Return whose key it is. A self-hosted server has one nameless user."""
    return {"id": None, "email": None, "git_user_name": None, "agent_settings": {"llm": {"model": DEFAULT_MODEL}}}


async def settings(world: Starts, asked: Asked) -> object:  # noqa: ARG001
    """Return the account's settings; of its git providers only the names, each with its host if that is another."""
    return {"language": None, "v1_enabled": True, "provider_tokens_set": dict.fromkeys(connected(world))}


async def alive(world: Starts, asked: Asked) -> object:  # noqa: ARG001
    return {"status": "ok"}


async def server_info(world: Starts, asked: Asked) -> object:  # noqa: ARG001
    """Tell of the server, without a title: that is how an Agent Server is known from this one."""
    return {"uptime": 1.9, "idle_time": 1.9, "resources": {}}


ROUTES = (
    Route("GET", "/server_info", "other", "v1", server_info, needs_key=False),
    Route("GET", "/api/v1/git/repositories/search", "repositories", "v1", repositories),
    Route("GET", "/api/v1/git/branches/search", "branches", "v1", branches),
    Route("GET", "/api/v1/config/models/search", "other", "v1", models),
    Route("GET", "/api/v1/settings", "other", "v1", settings),
    Route("GET", "/api/v1/users/me", "other", "v1", me),
    Route("GET", "/alive", "other", "v1", alive, needs_key=False),
)
