"""`python -m bot doctor`: checks everything the bot needs from outside once, and says how to fix it."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.causes import trust_help
from bot.clock import Clock
from bot.core.errors import (
    Moved,
    OpenHandsError,
    Rejected,
    SettingsWrong,
    SlackBusy,
    SlackError,
    SlackLocked,
    SlackNoScope,
    SlackRefused,
    SlackUnsure,
    StoreReplaced,
    StoreUnavailable,
    Unauthorised,
    Unavailable,
    Unreadable,
)
from bot.core.model import Api, Slots
from bot.core.pacing import Patience
from bot.openhands import CanCount, CanFindRepository, OpenHands, SelfHosted
from bot.openhands.connect import LateOpenHands, wrong_address
from bot.openhands.http import Http
from bot.ops import policy_file
from bot.settings import Settings, Unknown, how_to
from bot.slack.gateway import ANSWER_LOST, TIMED_OUT, Gateway, session_of
from bot.slack.scopes import REINSTALL, REQUIRED, SCOPES, lacking
from bot.store import inbox, maintenance
from bot.store.address import FOUR_SLASHES, read_address
from bot.store.database import reason, replaced
from bot.store.sqlite import network_share

CHECK_S = 10.0
"""Time limit for each check; all run concurrently."""
ROOM_BYTES = 200_000_000
"""Free space below which an operator must act: a failed write means a refused request."""
LOST = frozenset({ANSWER_LOST, TIMED_OUT})
"""Codes of calls that got no answer."""
WHOLE_MACHINE = (
    "this key opens a shell on that machine: give the server one of its own, and keep the key as its password"
)
"""What everybody who sets the key of an Agent Server should know."""
DEPRECATED = "plan an update: no newer OpenHands has this API, and the cloud has announced to remove it"
PLURALS = {"sandbox": "sandboxes", "agent": "agents"}
SIGNS = {True: "✓", False: "✗", None: "–"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    ok: bool | None
    """None: not checked, or not known."""
    what: str
    mend: str = ""
    """The next step, if there is one."""

    def __str__(self) -> str:
        return f"{SIGNS[self.ok]} {self.what}" + (f" → {self.mend}" if self.mend else "")


def well(what: str, mend: str = "") -> Finding:
    return Finding(ok=True, what=what, mend=mend)


def wrong(what: str, mend: str) -> Finding:
    return Finding(ok=False, what=what, mend=mend)


def unclear(what: str, mend: str = "") -> Finding:
    return Finding(ok=None, what=what, mend=mend)


async def examine(settings: Settings, clock: Clock, within_s: float = CHECK_S) -> Sequence[Finding]:
    """Run all checks concurrently. The findings always come in the same order. Raises nothing."""
    patience = Patience(openhands_timeout_s=within_s)
    key = settings.openhands_api_key.get_secret_value()
    http = Http(settings.openhands_base_url, key, clock=clock, patience=patience, agent_hosts=settings.agent_hosts)
    openhands = LateOpenHands(http, settings.openhands_api, settings.hosting)
    async with session_of(2 * within_s) as session:  # so that the time of a check always ends first
        token = settings.slack_bot_token.get_secret_value()
        gateway = Gateway(token, settings.slack_api_url, session, clock, patience)
        found = await asyncio.gather(
            within_time(within_s, "Slack", slack(gateway, settings)),
            within_time(within_s, "Socket Mode", app_token(gateway, settings)),
            within_time(within_s, "Database", database(settings.database_url, clock.now())),
            within_time(within_s, "OpenHands", openhands_server(openhands, settings)),
        )
    await http.aclose()
    return [finding for findings in found for finding in findings]


async def within_time(within_s: float, name: str, look: AsyncGenerator[Finding, None]) -> Sequence[Finding]:
    """Return the findings of a check; a time-out or an unexpected error becomes a finding too."""
    found: list[Finding] = []
    try:
        async with asyncio.timeout(within_s), aclosing(look) as findings:
            async for finding in findings:
                found.append(finding)  # noqa: PERF401 - findings from before a time-out are kept
    except TimeoutError:
        found.append(wrong(f"{name} did not answer within {within_s:g} s", "try again; look at the network"))
    except Exception as err:  # noqa: BLE001 - one broken check must not hide the others
        found.append(wrong(f"{name}: the look itself failed ({type(err).__name__})", "report it as a mistake"))
    return found


# --- the settings -----------------------------------------------------------------------------------------------


def names(unknown: Sequence[Unknown]) -> list[Finding]:
    """Return a finding for each name that nobody reads; one similar to a setting's name is probably a typo."""
    return [Finding(False if one.meant else None, f"Settings: {one}") for one in unknown]


def risks(found: Sequence[str]) -> list[Finding]:
    """Return a finding for each setting that lets others read along; they may be known and wanted."""
    return [Finding(None, f"Settings: {risk}") for risk in found]


def rules(settings: Settings) -> Sequence[Finding]:
    """Check the policy file; without one say what that means."""
    if settings.policy_file is None:
        return [unclear("Rules: open to the whole workspace", "POLICY_FILE says who may do what, and where")]
    try:
        found, _ = policy_file.read(settings.policy_file)
    except SettingsWrong as err:
        return [wrong(f"Rules: {problem}", "correct it: the bot does not start with it") for problem in err.problems]
    bound = "bound to its repositories" if found.repositories else "in every repository of the account"
    return [well(f"Rules: {settings.policy_file}, with {len(found.rules)} of its own for some, {bound}")]


# --- Slack ------------------------------------------------------------------------------------------------------


async def slack(gateway: Gateway, settings: Settings) -> AsyncGenerator[Finding, None]:
    """Check the bot token, its scopes and the team's channel."""
    try:
        us, scopes = await gateway.identity()
    except SlackError as err:
        yield slack_error("SLACK_BOT_TOKEN", err)
        return
    yield well(f"Slack bot token: {us.user} in {us.workspace_url}")
    yield of_scopes(scopes)
    yield await team_channel(gateway, settings.notify_channel)
    for group in sorted(named_groups(settings)):
        yield await user_group(gateway, group)


def named_groups(settings: Settings) -> Collection[str]:
    """Return the user groups that the policy file names; none of a file that is wrong, which is told by itself."""
    try:
        return policy_file.read(settings.policy_file)[0].groups
    except SettingsWrong:
        return ()


async def user_group(gateway: Gateway, group: str) -> Finding:
    """Check that a user group can be read."""
    try:
        count = len(await gateway.members(group))
    except SlackNoScope:
        return wrong(f"User group {group}: the token lacks usergroups:read, so nobody counts as in it", REINSTALL)
    except SlackRefused as err:
        return wrong(f"User group {group}: Slack does not show it ({err.code})", "correct its id in POLICY_FILE")
    except SlackError as err:
        return slack_error(f"User group {group}", err)
    return well(f"User group {group}: {count} {'person' if count == 1 else 'people'}")


def of_scopes(scopes: frozenset[str]) -> Finding:
    """Compare the token's scopes with those the code needs, which are those in the manifest."""
    if not scopes:
        return unclear("Scopes: Slack does not name them")
    if missing := REQUIRED - scopes:
        return wrong(f"Scopes: {', '.join(sorted(missing))} missing, and the bot can't start", REINSTALL)
    if without := lacking(scopes):
        told = "; ".join(f"without {scope} {what}" for scope, what in without.items())
        return wrong(f"Scopes: {told}", REINSTALL)
    return well(f"Scopes: all {len(SCOPES)} of manifest.yml")


async def team_channel(gateway: Gateway, name: str | None) -> Finding:
    """Check that the team's channel exists and that the bot is in it."""
    if name is None:
        return unclear("NOTIFY_CHANNEL: not set, so only threads hear of ends")
    try:
        channel = await gateway.channel_called(name)
        inside = channel is not None and await gateway.is_in(channel)
        shared = channel is not None and (await gateway.place(channel)).external
    except SlackNoScope as err:
        scopes = err.needed or "a scope"
        return wrong(f"NOTIFY_CHANNEL: it can't be looked up, since the token lacks {scopes}", REINSTALL)
    except SlackRefused:
        channel = None
    except SlackError as err:
        return slack_error("NOTIFY_CHANNEL", err)
    if channel is None:
        return wrong("NOTIFY_CHANNEL: no such channel that the bot can see", "correct it; invite the bot if private")
    if shared:
        return wrong("NOTIFY_CHANNEL: it is shared with another company, so nothing is said there", "name one of yours")
    if not inside:
        return wrong("NOTIFY_CHANNEL: the bot is not in it", "/invite @OpenHands there")
    return well("NOTIFY_CHANNEL: the bot is in it")


async def app_token(gateway: Gateway, settings: Settings) -> AsyncGenerator[Finding, None]:
    """Check the app-level token by asking for a connection's address, without connecting."""
    try:
        await gateway.socket_url(settings.slack_app_token.get_secret_value())
    except SlackError as err:
        yield slack_error("SLACK_APP_TOKEN", err)
    else:
        yield well("Slack app-level token: Socket Mode may connect")


def slack_error(what: str, err: SlackError) -> Finding:
    if isinstance(err, SlackLocked | SlackRefused):
        return wrong(f"{what} is refused by Slack ({err.code})", how_to(what.lower()))
    if isinstance(err, SlackBusy):
        return wrong(f"{what}: Slack takes no more calls for now ({err.code})", f"try again in {err.retry_after_s:g} s")
    if isinstance(err, SlackUnsure) and err.code not in LOST:
        return wrong(f"{what}: a fault inside Slack ({err.code})", "try again; look at https://slack-status.com")
    if mend := trust_help(err.cause):
        return wrong(f"{what}: Slack's {err.cause}", mend)
    mend = "look at the network, HTTPS_PROXY and SLACK_API_URL"
    return wrong(f"{what}: no answer of Slack ({err.code})", mend)


# --- the database -----------------------------------------------------------------------------------------------


async def database(url: str, now: datetime) -> AsyncGenerator[Finding, None]:
    """Check the tables, what was received from Slack according to them, and the free disk space."""
    file = maintenance.file_of(url)
    try:
        async with maintenance.opened(url) as opened, opened.reading() as tx:
            yield await tables(tx, file)
            yield heard(await inbox.last_received(tx), now)
    except maintenance.NoDatabase as none:
        yield not_there(Path(str(none)))
        if not Path(str(none)).parent.is_dir():
            return
    except StoreReplaced as err:
        what, mend = replaced(err)
        yield wrong(f"Database: {what}", mend)
    except StoreUnavailable as err:
        yield wrong(f"Database: it can't be read ({reason(err)})", read_address(url).advice)
    except SettingsWrong as err:
        yield wrong("Database: refused", " ".join(err.problems))
    yield room(file)


def not_there(file: Path) -> Finding:
    """Return whether a missing file can still be created, or never, since the bot creates no folders."""
    if file.parent.is_dir():
        return unclear(f"Database: {file} is not there", "the first start makes it; if that was, correct DATABASE_URL")
    return wrong(f"Database: there is no folder {file.parent}", f"make it, or correct DATABASE_URL ({FOUR_SLASHES})")


async def tables(tx: AsyncConnection, file: Path | None) -> Finding:
    began = perf_counter()
    found, known = await maintenance.versions(tx)
    took = f"answers in {(perf_counter() - began) * 1000:.0f} ms"
    used = "a bot works on it" if await maintenance.is_in_use(tx, file) else "no bot works on it"
    if not await maintenance.is_sound(tx):
        return wrong(f"Database: damaged, {used}", "stop the bot and restore a backup")
    if found is not None and found not in known:
        newer = f"Database: made by a newer version of this bot ({found}; this one knows {known[-1]}), {used}"
        return wrong(newer, "start that version, or restore a backup made before it")
    if found != known[-1]:
        return unclear(
            f"Database: tables of an older version, {used}", "a start of this version brings them up to date"
        )
    return well(f"Database: {took}, {used}")


def heard(last: Mapping[str, datetime], now: datetime) -> Finding:
    """Report when Slack last sent each kind of event, since Slack can't be asked for the app's subscriptions."""
    told = ", ".join(f"{kind} {ago(now - at)} ago" for kind, at in last.items()) or "nothing"
    messages = last.keys() & {"message in a channel", "direct message"}
    compare = "" if messages else f"write `@OpenHands status` in a channel; if no answer comes, {REINSTALL}"
    return Finding(True if messages else None, f"Events of the last 7 days: {told}", compare)


def ago(age: timedelta) -> str:
    hours, minutes = divmod(max(0, int(age.total_seconds())) // 60, 60)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def room(file: Path | None) -> Finding:
    """Check the free space on the disk."""
    if file is None:
        return unclear("Disk: the database is on a server")
    folder = file.parent
    if not os.access(folder, os.W_OK):
        return wrong(f"Disk: {folder} can't be written to", "let the bot's user write there, or correct DATABASE_URL")
    if kind := network_share(file):
        return wrong(f"Disk: {folder} is on a network share ({kind})", "move it to a local disk, or use PostgreSQL")
    return of_room(shutil.disk_usage(folder).free, folder)


def of_room(free_bytes: int, folder: Path) -> Finding:
    told = f"Disk: {free_bytes / 1e9:.1f} GB free in {folder}"
    if free_bytes < ROOM_BYTES:
        return wrong(told, "make room: on a full disk no request can be taken")
    return well(told)


# --- OpenHands --------------------------------------------------------------------------------------------------


async def openhands_server(openhands: LateOpenHands, settings: Settings) -> AsyncGenerator[Finding, None]:
    """Check the server, the key, the account's slots and the default repository."""
    try:
        server = await openhands()
    except Unauthorised:
        yield wrong("OPENHANDS_API_KEY is refused by OpenHands", how_to("openhands_api_key"))
        return
    except OpenHandsError as err:
        if isinstance(err, Unreadable):
            yield wrong("OpenHands: no OpenHands at this address", wrong_address(settings.openhands_base_url))
        elif isinstance(err, Moved):
            yield wrong(f"OpenHands: {err}", "set OPENHANDS_BASE_URL to where OpenHands is, as people open it")
        elif mend := trust_help(str(err)):
            yield wrong(f"OpenHands: {err}", mend)
        elif isinstance(err, Unavailable):
            yield wrong("OpenHands: it can't be reached", "look at OPENHANDS_BASE_URL; look at the network")
        else:
            yield wrong("OpenHands: it answers, but not as OpenHands does", "look at OPENHANDS_BASE_URL; try again")
        return
    accepted = "key accepted" if settings.openhands_api_key.get_secret_value() else "no key, and none needed so far"
    if isinstance(server, SelfHosted):
        yield well(
            f"OpenHands: Agent Server {server.version or 'of a version it does not tell'}, {accepted}", WHOLE_MACHINE
        )
    elif server.api is Api.V0:
        yield unclear(f"OpenHands: an older server (OPENHANDS_API=v0), {accepted}", DEPRECATED)
    else:
        yield well(f"OpenHands: cloud or Enterprise (OPENHANDS_API={server.api.value}), {accepted}")
    try:
        if isinstance(server, SelfHosted):
            yield await agent_profile(server)
            for name, folder in settings.hosting.workspaces.items():
                yield await workspace(server, name, folder)
        yield slots(await server.slots() if isinstance(server, CanCount) else None, settings.max_concurrent_runs)
        yield await repository(server, settings.default_repository)
    except OpenHandsError:
        yield wrong("OpenHands: it does not answer every question", "try again; if it stays so, look at its own log")


async def agent_profile(server: SelfHosted) -> Finding:
    """Check that an Agent Server has the profile and all that it names."""
    try:
        name, lacks = await server.profile_name(), await server.lacks()
    except Rejected as err:
        return wrong(f"Agent profile: {err.words}", "correct OPENHANDS_AGENT_PROFILE, or make that profile there")
    if lacks:
        return wrong(
            f"Agent profile: {name} is not complete ({'; '.join(lacks)})", "set its model in OpenHands' settings"
        )
    return well(f"Agent profile: {name}, complete")


async def workspace(server: SelfHosted, name: str, folder: str) -> Finding:
    """Check that a clone is where the settings say, and that its remote can be read."""
    if isinstance(server, CanFindRepository) and await server.lists(name):
        return well(f"Workspace: {name} in {folder}")
    return wrong(f"Workspace: no clone of {name} in {folder}, or its origin can't be read", "correct WORKSPACES")


def slots(found: Slots | None, most: int) -> Finding:
    """Tell how many run, other people's included; the limit is told by no server before it refuses."""
    if found is None:
        return unclear("At work: this server does not tell how many run")
    counted = found.of if found.running == 1 else PLURALS[found.of]
    told = f"{found.running} {counted}, other people's included"
    return well(f"At work: {told}; at most MAX_CONCURRENT_RUNS={most} of this bot's runs at once")


async def repository(server: OpenHands, name: str | None) -> Finding:
    """Check that the account's git provider shows the default repository."""
    if name is None:
        return unclear("Git provider: not checked without DEFAULT_REPOSITORY")
    if not isinstance(server, CanFindRepository):
        return unclear(f"Git provider: this server does not tell whether it can open {name}", "start a task on it")
    if await server.lists(name):
        return well(f"Git provider: {name} can be opened")
    if isinstance(server, SelfHosted):
        return unclear(f"Git provider: {name} can't be opened", "give the server's own git a login; look at the name")
    return unclear(
        f"Git provider: {name} is in no list", "connect the provider in OpenHands' settings; look at the name"
    )
