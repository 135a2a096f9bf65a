"""`openhands-slack`, or `python -m bot`: the command line and nothing else."""

import gc

gc.disable()  # imports make only objects that stay; scanning them for garbage takes a tenth of the start

import asyncio
import signal
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NoReturn

try:
    import typer

    from bot.app import Bot
except ModuleNotFoundError as err:
    if str(err.name).partition(".")[0] == "bot":
        raise
    sys.stderr.write(
        f"{err.name} is not installed for this Python. In a checkout type `make run`, `make demo` or `make doctor`, which "
        "install what they need; elsewhere type `pip install .` in the checkout, then `openhands-slack`.\n"
    )
    raise SystemExit(2) from None
except KeyboardInterrupt:  # during the second that importing the libraries takes
    raise SystemExit(130) from None

import structlog

from bot import __version__
from bot import settings as settings_of
from bot.core.errors import SettingsWrong, SlackError, StoreInUse, StoreNewer, StoreReplaced, StoreUnavailable
from bot.core.model import Act, Why
from bot.ops import logs
from bot.settings import Settings
from bot.slack import manifest as manifest_of
from bot.store.address import read_address
from bot.store.database import reason, replaced

gc.freeze()  # nor are they scanned later
gc.enable()
log = structlog.get_logger("main")

WRONG = 2
"""Exit code: settings or tokens are wrong, so a restart changes nothing."""

SWITCH_S = 0.0005
"""Seconds a thread waits for its turn while the loops work: the one that commits a request needs several turns, and
Slack waits for it."""

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
dead = typer.Typer(invoke_without_command=True)
cli.add_typer(dead, name="dead")
audit = typer.Typer(invoke_without_command=True)
cli.add_typer(audit, name="audit")
policy = typer.Typer(no_args_is_help=True)
cli.add_typer(policy, name="policy")

Ids = Annotated[list[int] | None, typer.Argument(help="As they are listed.", show_default=False)]
Command = Annotated[str, typer.Option(help="The slash command that people are to type.")]
Link = Annotated[
    bool, typer.Option("--link", help="A link to Slack's page for a new app, with the manifest filled in.")
]
All = Annotated[bool, typer.Option("--all", help="All that are listed.")]


def print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"openhands-slack {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=print_version)]


@cli.callback()
def main(*, version: Version = False) -> None:
    """Run OpenHands coding agents from Slack."""


@cli.command()
def run() -> None:
    """Run the bot until it is told to stop."""
    settings = loaded()
    logs.configure(settings)
    for one in settings_of.unknown():
        log.warning("settings.unknown", name=one.name, help=str(one))
    for risk in settings_of.risks(settings):
        log.warning("settings.risk", help=risk)
    try:
        asyncio.run(serve(settings))
    except SettingsWrong as err:
        wrong(err)
    except StoreInUse as err:
        fail(f"Another process works on {err}: one bot per database. Stop it, or set another DATABASE_URL.", WRONG)
    except (StoreNewer, StoreReplaced) as err:
        fail(another_file(err), WRONG)
    except StoreUnavailable as err:
        out_of_order(err)


@cli.command()
def demo(
    api: Annotated[
        Literal["v1", "agent"], typer.Option(help="what the local OpenHands is: agent is an Agent Server")
    ] = "v1",
) -> None:
    """Play one run between a local Slack and a local OpenHands; no tokens needed."""
    from bot.simulator.demo import demo as play  # noqa: PLC0415 - the simulators are for this command alone

    raise typer.Exit(play(api))


@cli.command()
def doctor() -> None:
    """Check everything the bot needs, and say how to mend what is wrong."""
    from bot.clock import WallClock  # noqa: PLC0415 - for this command alone
    from bot.ops.doctor import examine, names, risks, rules  # noqa: PLC0415 - for this command alone

    settings = loaded()
    logs.configure(settings.model_copy(update={"log_level": "ERROR"}))
    outside = asyncio.run(examine(settings, WallClock()))
    findings = [*names(settings_of.unknown()), *risks(settings_of.risks(settings)), *rules(settings), *outside]
    typer.echo("\n".join(map(str, findings)))
    raise typer.Exit(any(finding.ok is False for finding in findings))


@cli.command()
def manifest(command: Command = manifest_of.COMMAND, *, link: Link = False) -> None:
    """Print the manifest that Slack makes the app from."""
    try:
        typer.echo((manifest_of.link if link else manifest_of.manifest)(command).rstrip("\n"))
    except ValueError as err:
        fail(f"{command} can't be the command: {err}.", WRONG)


@dead.callback()
def list_dead(context: typer.Context) -> None:
    """List what could never be posted or done."""
    from bot.ops.dead_letters import listed  # noqa: PLC0415 - for this command alone

    if context.invoked_subcommand is None:
        beside_the_bot(listed(loaded().database_url))


@dead.command("retry")
def retry_dead(ids: Ids = None, *, every: All = False) -> None:
    """Post it again, now that the reason is gone."""
    from bot.ops.dead_letters import retried  # noqa: PLC0415 - for this command alone

    beside_the_bot(retried(loaded().database_url, meant(ids, every=every), datetime.now(UTC)))


@dead.command("drop")
def drop_dead(ids: Ids = None, *, every: All = False) -> None:
    """Delete it."""
    from bot.ops.dead_letters import dropped  # noqa: PLC0415 - for this command alone

    beside_the_bot(dropped(loaded().database_url, meant(ids, every=every)))


@policy.command("check")
def check_policy() -> None:
    """Read POLICY_FILE, and name every mistake with its line."""
    from bot.explain import checked  # noqa: PLC0415 - for this command alone

    try:
        typer.echo(checked(loaded().policy_file))
    except SettingsWrong as err:
        wrong(err)


@policy.command("explain")
def explain_policy(
    person: Annotated[str, typer.Argument(help="Their id, or @name.")],
    place: Annotated[str, typer.Argument(help="A channel's id, or #name; direct for direct messages.")],
    repository: Annotated[str, typer.Argument(help="As org/repo; none for tasks without any.")],
    act: Annotated[Act, typer.Argument(help="What they want to do.")] = Act.START,
) -> None:
    """Tell whether somebody may do something somewhere, and by which rule."""
    from bot.clock import WallClock  # noqa: PLC0415 - for this command alone
    from bot.explain import explained  # noqa: PLC0415 - for this command alone

    settings = loaded()
    logs.configure(settings.model_copy(update={"log_level": "ERROR"}))
    try:
        typer.echo(asyncio.run(explained(settings, WallClock(), Why(person, place, repository, act))))
    except SettingsWrong as err:
        wrong(err)
    except SlackError as err:
        fail(f"Slack does not say who that is, or where ({err.code}).", 1)


@audit.callback()
def list_audit(
    context: typer.Context,
    since: Annotated[datetime, typer.Option(help="The first day, or moment, in UTC.")] = datetime(2000, 1, 1),  # noqa: DTZ001 - UTC is added below
    *,
    as_json: Annotated[bool, typer.Option("--json/--csv", help="A JSON object each, or CSV.")] = False,
) -> None:
    """List who did what, and by which rule."""
    from bot.ops.audit import listed  # noqa: PLC0415 - for this command alone

    if context.invoked_subcommand is None:
        beside_the_bot(listed(loaded().database_url, since.replace(tzinfo=UTC), as_json=as_json))


@audit.command("verify")
def verify_audit(
    known: Annotated[str | None, typer.Option(help="A fingerprint noted before, which must still be there.")] = None,
) -> None:
    """Find rows that were changed, taken out or put in."""
    from bot.ops.audit import Tampered, verified  # noqa: PLC0415 - for this command alone

    try:
        beside_the_bot(verified(loaded().database_url, known))
    except Tampered as err:
        fail("\n".join(err.problems), 1)


def meant(ids: list[int] | None, *, every: bool) -> list[int] | None:
    """Return the ids that were named; None for all of them."""
    if bool(ids) is every:
        fail("Name the ids of the list, or say --all.", WRONG)
    return ids or None


def beside_the_bot(work: Coroutine[Any, Any, str]) -> None:
    """Run a command on the database beside the bot, and print its result."""
    from bot.ops.dead_letters import Unknown  # noqa: PLC0415 - for this command alone
    from bot.store.maintenance import NoDatabase  # noqa: PLC0415 - as above

    try:
        typer.echo(asyncio.run(work))
    except SettingsWrong as err:
        wrong(err)
    except Unknown as err:
        fail(f"Not dead, or dropped already: {err}. Nothing was changed.", WRONG)
    except NoDatabase as err:
        fail(f"There is no database at {err}: the bot makes it at its first start. Else correct DATABASE_URL.", WRONG)
    except StoreReplaced as err:
        fail(f"Not opened: {'. '.join(replaced(err))}", WRONG)
    except StoreUnavailable as err:
        out_of_order(err)


def loaded() -> Settings:
    try:
        return settings_of.load()
    except SettingsWrong as err:
        wrong(err)


async def serve(settings: Settings) -> None:
    sys.setswitchinterval(SWITCH_S)
    bot = Bot(settings)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, bot.stop)
    if settings.policy_file is not None:
        loop.add_signal_handler(signal.SIGHUP, bot.read_policy)
    await bot.run()


def another_file(err: StoreNewer | StoreReplaced) -> str:
    """Return what to do when the database is not the one this program left."""
    if isinstance(err, StoreNewer):
        return f"Not started: {err}. Start that version, or restore a backup made before it."
    return f"Not started: {'. '.join(replaced(err))}"


def out_of_order(err: StoreUnavailable) -> NoReturn:
    fail(f"The database can't be opened: {reason(err)}. {read_address(loaded().database_url).advice}", 1)


def wrong(err: SettingsWrong) -> NoReturn:
    """Write every problem to stderr, one per line, and exit with `WRONG`."""
    for problem in err.problems[:-1]:
        sys.stderr.write(f"{problem}\n")
    fail(err.problems[-1], WRONG)


def fail(line: str, code: int) -> NoReturn:
    sys.stderr.write(f"{line}\n")
    raise typer.Exit(code)


if __name__ == "__main__":
    cli()
