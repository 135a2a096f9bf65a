"""`python -m bot run` and `python -m bot demo`: the command line and nothing else."""

import asyncio
import signal
import sys
from typing import NoReturn

import typer

from bot import logs
from bot import settings as settings_of
from bot.app import Bot
from bot.errors import SettingsWrong, StoreInUse, StoreUnavailable
from bot.settings import Settings

WRONG = 2
"""Exit code: settings or tokens are wrong, starting again changes nothing."""

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@cli.callback()
def main() -> None:
    """Run OpenHands coding agents from Slack."""


@cli.command()
def run() -> None:
    """Run the bot until it is told to stop."""
    try:
        settings = settings_of.load()
    except SettingsWrong as err:
        wrong(err)
    logs.configure(settings)
    try:
        asyncio.run(serve(settings))
    except SettingsWrong as err:
        wrong(err)
    except StoreInUse as err:
        fail(f"Another process works on {err}: one bot per database file. Stop it, or set another DATABASE_URL.", WRONG)
    except StoreUnavailable as err:
        said = getattr(err.__cause__, "orig", err.__cause__)  # the driver's own words, without SQL and links
        fail(f"The database can't be opened: {said}. Check DATABASE_URL, the folder's rights and the disk.", 1)


@cli.command()
def demo() -> None:
    """Play one run between a local Slack and a local OpenHands; no tokens needed."""
    from bot.simulator.demo import demo as play  # noqa: PLC0415 - the simulators are for this command alone

    raise typer.Exit(play())


async def serve(settings: Settings) -> None:
    bot = Bot(settings)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, bot.stop)
    await bot.run()


def wrong(err: SettingsWrong) -> NoReturn:
    """Name every problem; the last line says it all."""
    for problem in err.problems[:-1]:
        sys.stderr.write(f"{problem}\n")
    fail(err.problems[-1], WRONG)


def fail(line: str, code: int) -> NoReturn:
    sys.stderr.write(f"{line}\n")
    raise typer.Exit(code)


if __name__ == "__main__":
    cli()
