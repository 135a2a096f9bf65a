"""The files of a message: fetched when it goes out, kept nowhere."""

from collections.abc import Collection, Sequence
from datetime import datetime

import structlog

from bot.context import Context
from bot.core import files
from bot.core.errors import SlackBusy, SlackError, SlackNoScope, SlackRefused
from bot.core.files import DOCUMENTS, FILES_MAX, TEXT_MAX, Attached, Fetched, Omission
from bot.core.model import File
from bot.documents import text_in
from bot.openhands import CanSeeImages, OpenHands
from bot.slack.gateway import TOO_BIG

log = structlog.get_logger("sender")


class Files:
    """Fetches files from Slack, and makes of them what goes to the agent."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def attached(self, named: Sequence[File], *, images: Collection[str], since: datetime) -> Attached:
        """Return what goes along with a message that was due at `since`. images: the types that its server takes.

        Raises `SlackError` while it is worth to try again: Slack does not give one of them out now.
        """
        if not named:
            return Attached()
        late_s = (self._ctx.clock.now() - since).total_seconds()
        may_wait = late_s < self._ctx.patience.files_wait_s
        got = [await self._fetched(one, may_wait=may_wait) for one in named[:FILES_MAX]]
        got += [Fetched(one, why=Omission.MANY) for one in named[FILES_MAX:]]
        return files.attach(got, images=images)

    async def _fetched(self, file: File, *, may_wait: bool) -> Fetched:
        if files.too_big(file):
            return Fetched(file, why=Omission.BIG)
        try:
            file, data = await self._ctx.gateway.download(file, files.FILE_BYTES)
        except SlackNoScope:
            return Fetched(file, why=Omission.NO_SCOPE)
        except SlackRefused as err:
            return Fetched(file, why=Omission.BIG if err.code == TOO_BIG else Omission.GONE)
        except SlackError as err:
            if may_wait or isinstance(err, SlackBusy):
                raise
            log.warning("file.not_fetched", code=err.code)
            return Fetched(file, why=Omission.UNFETCHED)
        if files.kind_of(data) not in DOCUMENTS:
            return Fetched(file, data)
        text = await text_in(data, most=TEXT_MAX + 1, within_s=self._ctx.patience.file_timeout_s)
        return Fetched(file, data[: files.HEAD], text)


def types_seen(openhands: OpenHands) -> Collection[str]:
    """Return the types of images that a server takes; none if it takes text only."""
    return openhands.image_types if isinstance(openhands, CanSeeImages) else ()
