"""The documents match the bot: settings, commands, states, errors, targets and paths."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pydantic import SecretStr

from bot import openhands
from bot.__main__ import cli
from bot.core import errors, words
from bot.core.model import RunState, Waiting
from bot.ops.metrics import Metrics, Moment, gauges
from bot.settings import Settings
from bot.slack.manifest import link
from bot.store.stats import Standing
from bot.store.tables import metadata
from tests.core.runs import a_run
from tests.docs import ABILITIES, PAGES, SERVERS, TABLES, written
from tests.picture import picture

ROOT = Path(__file__).parents[1]
ADR_PARTS = ["Status", "Context", "Decision", "Consequences"]
PAGE_LINES = 60
README_LINES = 100
DRAWN_FOLDERS = ["bot/inbound", "bot/outbound"]  # the drawing shows their files without a folder
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:home|root|Users|work|mnt)/\w")
INDEX_ADDRESS = re.compile(r"--(?:extra-)?index-url|--find-link[s]|--trusted-hos[t]|file:/{2}|^-[fi] ", re.MULTILINE)
EVENT = re.compile(r"[a-z]+\.[a-z_]+")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pages() -> list[Path]:
    """Return the documents that people read, except the decision records."""
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def rows(document: str, header: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the table whose first heading is `header`."""
    _, _, table = document.partition(f"\n| {header} |")
    for line in table.partition("\n\n")[0].splitlines()[2:]:
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def spans(markdown: str) -> list[str]:
    """Return the texts between back quotes."""
    return re.findall(r"`([^`\n]+)`", markdown)


def default_of(name: str) -> str:
    """Return a setting's default as people would type it; empty if there is none."""
    default = Settings.model_fields[name.lower()].default
    if default is None or Settings.model_fields[name.lower()].is_required():
        return ""
    return default.get_secret_value() if isinstance(default, SecretStr) else str(default)


# --- the first page ---------------------------------------------------------------------------------------------


def test_the_readme_is_read_in_a_minute() -> None:
    """What only some people need is on a page of its own."""
    assert len(text("README.md").splitlines()) <= README_LINES


def test_every_figure_in_the_readme_was_measured() -> None:
    """Each figure is also in the tables of the benchmarks."""
    figures = re.findall(r"(\d+\.\d+) m?s\b", text("README.md"))
    assert figures
    assert [
        one for one in figures if not re.search(rf"\| {re.escape(one)}(?: s)? \|", text("docs/performance.md"))
    ] == []


# --- settings ---------------------------------------------------------------------------------------------------


def test_operators_read_of_every_setting_with_its_default() -> None:
    """Each setting has one row, and there are no other rows."""
    listed = {}
    for name, default, _ in rows(text("docs/operations.md"), "setting"):
        listed[name.strip("`")] = "" if default in ("none", "required") else default.strip("`")
    assert listed == {name.upper(): default_of(name) for name in Settings.model_fields}


def test_operators_read_which_settings_nobody_can_do_without() -> None:
    """Exactly the required settings are marked as required."""
    required = [
        name.strip("`") for name, default, _ in rows(text("docs/operations.md"), "setting") if default == "required"
    ]
    assert required == [name.upper() for name, field in Settings.model_fields.items() if field.is_required()]


def test_the_example_file_holds_every_setting_once_with_its_default() -> None:
    """Uncommenting a line changes nothing."""
    lines = re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", text(".env.example"), re.MULTILINE)
    assert lines == [(name.upper(), default_of(name)) for name in Settings.model_fields]


# --- what operators type and see --------------------------------------------------------------------------------


def test_operators_read_of_every_command() -> None:
    """Each command has one row, and there are no other rows."""
    groups = [("", cli), *((f"{group.name} ", group.typer_instance) for group in cli.registered_groups)]
    commands = {
        f"{prefix}{command.name or command.callback.__name__}"
        for prefix, group in groups
        if group
        for command in group.registered_commands
        if command.callback
    } | {str(group.name) for group in cli.registered_groups}
    listed = [
        spans(cells[0])[0].removeprefix("openhands-slack ")
        for cells in rows(text("docs/operations.md"), "command line")
    ]
    assert sorted(listed) == sorted(commands)


def test_every_command_has_its_target() -> None:
    """In a checkout `make` does the same; a command's arguments go into ARGS."""
    for cells in rows(text("docs/operations.md"), "command line"):
        command, *rest = spans(cells[0])[0].removeprefix("openhands-slack ").split()
        [target] = re.findall(r"make ([a-z]+)", cells[1])
        assert target == command
        assert re.findall(r"ARGS='([a-z]+)", cells[1]) == rest
        api = r" \$\(if \$\(API\),--api \$\(API\)\)" if command == "demo" else ""
        arguments = r" \$\(ARGS\)" if command in ("audit", "dead", "manifest", "policy") else api
        assert re.search(
            rf"^{target}: .*\n\t@\$\(BIN\)/python -m bot {command}{arguments}$", text("Makefile"), re.MULTILINE
        )


def test_what_is_to_be_typed_works_as_it_stands() -> None:
    """Commands use the Python of `.venv`, since any other lacks the libraries."""
    for page in pages():
        assert re.findall(r"(?<!\.venv/bin/)python -m bot.*", page.read_text(encoding="utf-8")) == []


def test_the_readmes_link_makes_the_app_of_this_manifest() -> None:
    """The link has what `manifest.yml` says today."""
    assert f"\n[create-app]: {link()}\n" in text("README.md")
    assert "][create-app]" in text("README.md")


def test_operators_read_of_every_metric() -> None:
    """Each metric has a row that says when to look into it, and there are no other rows."""
    standing = Standing(runs={}, waiting=0, owed={}, oldest={}, dead={})
    now = gauges(Moment(now=datetime.now(UTC), connected=True, ended={}, standing=standing))
    families = [*Metrics().registry.collect(), *now.collect()]
    listed = [spans(cells[0])[0] for cells in rows(text("docs/operations.md"), "metric")]
    assert sorted(listed) == sorted(one.name + ("_total" if one.type == "counter" else "") for one in families)


def test_operators_read_of_every_warning_and_error() -> None:
    """Each event logged at warning or above is explained."""
    logged = {
        str(node.args[0].value)
        for file in (ROOT / "bot").glob("**/*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("log.warning", "log.error", "log.exception")
        and isinstance(node.args[0], ast.Constant)
    }
    listed = {event for cells in rows(text("docs/operations.md"), "event") for event in spans(cells[0])}
    assert logged - listed == set()


# --- what people type -------------------------------------------------------------------------------------------


def test_the_tables_that_are_declared_are_as_declared() -> None:
    """They are what `make docs` would write, and each stands in one place."""
    pages = [text(f"docs/{name}") for name in PAGES]
    assert [written(page) for page in pages] == pages
    for name in TABLES:
        assert "".join(pages).count(f"<!-- {name}: written by `make docs` -->") == 1, name


def test_the_table_of_servers_has_every_ability() -> None:
    """A new one needs its row; what is said of a server is said of one in the table."""
    declared = {one for one in vars(openhands).values() if isinstance(one, type) and openhands.OpenHands in one.__mro__}
    assert {one.of for one in ABILITIES} == declared
    assert {client for one in ABILITIES for client in one.how} <= set(SERVERS.values())


def test_the_picture_shows_what_the_bot_says_today() -> None:
    """The picture is what `make picture` would write."""
    assert text("docs/thread.svg") == picture()
    assert "](docs/thread.svg)" in text("README.md")


def test_nothing_in_the_picture_reaches_over_its_edge() -> None:
    """Each text and each shape ends within the frame."""
    drawn = ET.fromstring(picture())
    width = float(drawn.attrib["width"])
    ends = [float(one.get("x", 0)) + float(one.get("textLength") or one.get("width") or 0) for one in drawn]
    assert len(ends) > 50
    assert max(ends) < width


# --- states and errors ------------------------------------------------------------------------------------------


def test_every_state_is_in_the_diagram() -> None:
    """The diagram has every state of a run, and no other."""
    [diagram] = re.findall(r"```mermaid\n(.*?)```", text("docs/how-it-works.md"), re.DOTALL)
    drawn = {end for line in re.findall(r"^ +(\S+) --> (\w+)", diagram, re.MULTILINE) for end in line}
    assert drawn - {"[*]"} == set(RunState)


def test_people_read_what_the_card_says_in_every_state() -> None:
    """The table has the exact labels of the cards."""
    listed = [label for labels, _ in rows(text("docs/using.md"), "card says") for label in labels.split(" · ")]
    kinds = [(state, kind) for state in RunState for kind in (Waiting if state is RunState.WAITING else [None])]
    assert listed == [words.state(a_run(state, waiting=kind)) for state, kind in kinds]


def test_every_error_is_drawn_where_it_belongs() -> None:
    """The tree in the docstring matches the class hierarchy."""
    drawn: dict[str, str] = {}
    parents = ["Exception"]
    for branch, name in re.findall(r"^([│├└─ ]*)(\w+)(?= {2}|$)", errors.__doc__ or "", re.MULTILINE):
        depth = len(branch) // 4
        drawn[name] = parents[depth]
        parents[depth + 1 :] = [name]
    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, Exception)]
    assert drawn == {item.__name__: item.__bases__[0].__name__ for item in classes}


def test_every_table_is_described() -> None:
    """The design describes each table, and no other."""
    described = [name.strip("`") for name, _ in rows(text("docs/how-it-works.md"), "table")]
    assert sorted(described) == sorted(metadata.tables)


# --- the code ---------------------------------------------------------------------------------------------------


def test_every_file_has_its_room() -> None:
    """The table of rooms names each module, and its order is that of the allowed imports."""
    drawn = [(room.strip("`"), spans(files)) for room, files, _ in rows(text("docs/how-it-works.md"), "room")]
    for room, files in drawn:
        there = (ROOT / "bot" if room == "bot" else ROOT / "bot" / room).glob("*.py")
        if room not in ("bot", "simulator"):
            assert sorted(files) == sorted(file.stem for file in there if file.stem != "__init__")
    top = {file for room, files in drawn for file in files if room == "bot"}
    assert top == {file.stem for file in (ROOT / "bot").glob("*.py")} - {"__init__"}
    contracts = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    order = [one.removeprefix("bot.") for layer in contracts[0]["layers"] for one in layer.split(" | ")]
    assert [files[0] if room == "bot" else room for room, files in drawn] == order


def test_the_way_of_a_request_leads_through_what_is_there() -> None:
    """Each step names a file and a definition in it."""
    steps = [spans(where) for where, _ in rows(text("docs/how-it-works.md"), "where")]
    assert len(steps) > 10
    for file, name in steps:
        within: list[ast.stmt] = ast.parse(text(f"bot/{file}")).body
        for part in name.split("."):
            [found] = [
                one
                for one in within
                if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and one.name == part
            ]
            within = found.body


def test_every_file_that_is_named_exists() -> None:
    """Each path is that of a file in the repository or the package."""
    named = [
        (page.name, span)
        for page in pages()
        if page.name != "CHANGELOG.md"
        for span in re.findall(r"[\w./-]*\w\.py\b", page.read_text(encoding="utf-8"))
    ]
    assert len(named) > 40
    missing = {
        one for one in named if not any((ROOT / folder / one[1]).is_file() for folder in ("", "bot", *DRAWN_FOLDERS))
    }
    assert missing == set()


# --- the repository ---------------------------------------------------------------------------------------------


def test_every_target_that_is_named_exists() -> None:
    """Each `make …` in the documents is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    documents = "\n".join(page.read_text(encoding="utf-8") for page in pages())
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", documents, re.MULTILINE))
    assert named - targets == set()
    assert {"demo", "test", "run"} <= named


def test_operators_read_of_events_and_sentences_that_exist() -> None:
    """Each log event and each quoted sentence is in the code."""
    page = text("docs/operations.md")
    constants = [
        node.value
        for file in (ROOT / "bot").glob("**/*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    events = [span for span in spans(page) if EVENT.fullmatch(span) and span.split(".")[1] not in ("db", "yml")]
    quoted = [part.strip() for quote in re.findall(r'"([^"\n]+)"', page) for part in quote.split("…")]
    assert [event for event in events if event not in constants] == []
    assert [part for part in quoted if not any(part in constant for constant in constants)] == []
    assert events
    assert quoted


@pytest.mark.parametrize("page", sorted((ROOT / "docs/adr").iterdir()), ids=lambda page: page.stem[:4])
def test_a_decision_is_one_page_in_four_parts(page: Path) -> None:
    """The title has the number; then come status, context, decision and consequences."""
    written = page.read_text(encoding="utf-8")
    assert re.fullmatch(r"\d{4}(-[a-z0-9]+)+\.md", page.name)
    assert re.match(rf"# {int(page.name[:4])}\. \S", written)
    assert re.findall(r"^## (.+)$", written, re.MULTILINE) == ADR_PARTS
    assert len(written.splitlines()) <= PAGE_LINES


def test_decisions_are_numbered_without_gaps() -> None:
    """A number names one decision."""
    numbers = sorted(int(page.name[:4]) for page in (ROOT / "docs/adr").iterdir())
    assert numbers == list(range(1, len(numbers) + 1))


def anchors(document: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", document, re.MULTILINE)
    }


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link is a file or folder of the repository, or a heading on one of its pages."""
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        links = re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", document.read_text(encoding="utf-8"))
        for file, heading in links:
            target = document.parent / file if file else document
            assert target.exists(), (document.name, file)
            assert not heading or heading in anchors(target.read_text(encoding="utf-8")), (document.name, heading)


def files_of_the_repository() -> list[Path]:
    """Return all tracked files, and new files that are not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [file for name in set(listed.stdout.split("\0")) - {""} if (file := ROOT / name).is_file()]


def test_no_file_holds_a_path_of_somebodys_machine_or_an_index_address() -> None:
    """The repository works on every machine."""
    found = [
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in files_of_the_repository()
        for pattern in (MACHINE_PATH, INDEX_ADDRESS)
        for match in pattern.finditer(file.read_text(encoding="utf-8"))
    ]
    assert found == []


# --- dependencies -----------------------------------------------------------------------------------------------


def pinned(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[\S+\])?==(\S+)", text(name), re.MULTILINE))


def test_every_dependency_is_pinned_with_hashes() -> None:
    """Each dependency in pyproject.toml has one version in the files people install from, with hashes."""
    project = tomllib.loads(text("pyproject.toml"))
    run = {re.split(r"[\[>=<]", one)[0] for one in project["project"]["dependencies"]}
    dev = {re.split(r"[\[>=<]", one)[0] for one in project["dependency-groups"]["dev"]}
    assert run - set(pinned("requirements.txt")) == set()
    assert run | dev - set(pinned("requirements-dev.txt")) == run
    for name in ("requirements.txt", "requirements-dev.txt"):
        assert re.findall(r"^[a-z]\S+.*\n(?!    --hash=sha256:)", text(name), re.MULTILINE) == []


def test_the_tests_run_on_the_versions_the_bot_runs_on() -> None:
    """What both files pin has the same version in both."""
    assert pinned("requirements.txt").items() <= pinned("requirements-dev.txt").items()
