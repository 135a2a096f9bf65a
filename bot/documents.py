"""PDF and Word documents → text, in a process of their own: one that is hostile or endless ends with it.

The process knows no token, may take so much memory and time, and tells the first characters it finds.
"""

import asyncio
import contextlib
import io
import os
import resource
import sys

MEMORY = 1024**3  # bytes
PAGES = 500  # of a PDF that are read
PDF = b"%PDF"


async def text_in(data: bytes, *, most: int, within_s: float) -> str | None:
    """Return the first `most` characters of a PDF or Word document; None if it is neither, or can't be read in time."""
    reading = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # this file's folder is no place to import from
        __file__,
        str(most),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )
    try:
        async with asyncio.timeout(within_s):
            told, _ = await reading.communicate(data)
    except TimeoutError:
        return None
    finally:
        if reading.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                reading.kill()
            await reading.wait()
    return told.decode() if reading.returncode == 0 else None


def read(data: bytes, most: int) -> str:
    """Return the first `most` characters of a document. Raises whatever its library raises for a broken one."""
    if data.startswith(PDF):
        from pypdf import PdfReader  # noqa: PLC0415 - only the process that reads needs it

        found: list[str] = []
        for page in PdfReader(io.BytesIO(data)).pages[:PAGES]:
            found.append(page.extract_text())
            if sum(map(len, found)) > most:
                break
        return "\n".join(found)[:most]
    import mammoth  # type: ignore[import-untyped]  # noqa: PLC0415 - it has no types; as above

    return str(mammoth.extract_raw_text(io.BytesIO(data)).value)[:most]


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.stdout.buffer.write(read(sys.stdin.buffer.read(), int(sys.argv[1])).encode("utf-8", "replace"))
