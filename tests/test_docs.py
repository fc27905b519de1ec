"""The documents say what the code has: every command, option, reason, act, field, file and link."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from ledger.cli import COMMANDS, cli

from ledger import consent, snapshot
from ledger.shards import journal
from ledger.statements import audit_statement, decided, receipt, selection_statement, statement
from ledger.store import acts

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def _read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _walk(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _walk(found, (*words, name))


TREE = dict(_walk(cli, ("consent",)))
LEAVES = {words: command for words, command in TREE.items() if not isinstance(command, click.Group)}


def _sections(text: str) -> dict[str, str]:
    """Of cli.md: `consent audit` -> the text under that heading, for headings of the third level."""
    parts = re.split(r"^### `(consent [^`]*)`$", text, flags=re.MULTILINE)
    return {
        " ".join(heading.split()): re.split(r"^## ", body, flags=re.MULTILINE)[0]
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def _section(words: tuple[str, ...]) -> str:
    name = " ".join(words)
    found = [body for heading, body in _sections(_read("cli.md")).items() if heading == name or heading.startswith(name + " ")]
    assert len(found) == 1, f"cli.md has {len(found)} sections for `{name}`"
    return found[0]


def _named(word: str, text: str) -> bool:
    """`word` stands in the text as a code word of its own."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def test_the_tree_is_that_of_the_command_line() -> None:
    assert {words[1] for words in TREE if len(words) > 1} == set(COMMANDS)


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_and_option_is_described(words: tuple[str, ...]) -> None:
    section = _section(words)
    options = [
        name
        for parameter in LEAVES[words].params
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
    ]
    assert [name for name in options if not _named(name, section)] == []


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_no_option_is_described_that_is_not_there(words: tuple[str, ...]) -> None:
    known = {name for parameter in LEAVES[words].params for name in parameter.opts}
    rows = re.findall(r"^\| (`-[^|]*?`) \|", _section(words).replace(r"\|", "/"), flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row)}
    assert named - known == set()


def test_no_command_is_described_that_is_not_there() -> None:
    for heading in _sections(_read("cli.md")):
        words = [word for word in heading.split() if re.fullmatch(r"[a-z-]+", word)]
        assert tuple(words) in LEAVES, heading


def test_the_options_of_consent_itself_are_described() -> None:
    text = _read("cli.md").partition("## Exit codes")[0]
    for parameter in TREE[("consent",)].params:
        assert all(_named(name, text) for name in parameter.opts), parameter.opts


@pytest.mark.parametrize("words", TREE, ids=" ".join)
def test_every_help_ends_with_an_example_that_parses(words: tuple[str, ...]) -> None:
    epilog = TREE[words].epilog or ""
    assert epilog.startswith("Example: consent ")
    line = shlex.split(epilog.removeprefix("Example: consent ").partition(" > ")[0])
    command: click.Command = cli
    context = click.Context(cli, info_name="consent")
    while isinstance(command, click.Group):
        found = command.get_command(context, line.pop(0))
        assert found is not None, epilog
        command = found
        context = click.Context(command, info_name=command.name, parent=context)
    _parse(command, context, line)
    assert words[1:] == () or epilog.split()[2] == words[1]


def _parse(command: click.Command, context: click.Context, line: list[str]) -> None:
    """The parser's own work, without converting values: an example may name files that are not here."""
    values, rest, _ = command.make_parser(context).parse_args(line)
    assert rest == []
    for parameter in command.params:
        assert not parameter.required or values.get(parameter.name or "") not in (None, ()), parameter.name


def test_exit_codes_and_reasons_are_explained() -> None:
    text = _read("cli.md")
    codes = text.partition("## Exit codes")[2].partition("\n## ")[0]
    assert re.findall(r"^\| (\d+) \|", codes, flags=re.MULTILINE) == ["0", "1", "2", "3", "4", "130"]
    assert re.findall(r"^\| `(\w+)` \| \S", text.partition("## Reasons")[2], flags=re.MULTILINE) == list(consent.REASONS)


def _code_words(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def _part(heading: str) -> str:
    """A section of formats.md."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", _read("formats.md"), flags=re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def test_every_schema_is_named() -> None:
    assert {path.name for path in (ROOT / "schemas").glob("*.json")} <= _code_words(_read("formats.md"))


def test_every_event_field_is_described() -> None:
    assert {*receipt.EVENT_REQUIRED, *receipt.EVENT_OPTIONAL} <= _code_words(_part("Event"))
    assert {*consent.STATES, *consent.ACTORS} <= _code_words(_part("Event"))


@pytest.mark.parametrize("kind", receipt.ACTS)
def test_every_act_is_described_with_its_fields(kind: str) -> None:
    row = next((line for line in _part("Acts").splitlines() if line.startswith(f"| `{kind}` |")), "")
    _, _, required, optional, *_ = [cell.strip() for cell in row.split("|")] if row else [""] * 4
    assert _code_words(required) == set(receipt.ACTS[kind][0])
    assert _code_words(optional) == set(receipt.ACTS[kind][1])


def test_every_snapshot_column_is_described_in_order() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", _part("Snapshot"), flags=re.MULTILINE)
    assert rows == [(field.name, str(field.type)) for field in snapshot.SCHEMA]


def test_every_import_column_is_described() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", _part("Import columns"), flags=re.MULTILINE)
    assert rows == list(acts.COLUMNS)


def test_every_field_of_the_predicate_is_described() -> None:
    section = _code_words(_part("Run statement"))
    for name in (*statement.RunRecord.__dataclass_fields__, *statement.ShardRecord.__dataclass_fields__, *decided.BASES):
        assert name in section, name
    section |= _code_words(_part("Audit statement"))
    for name in (*audit_statement.AuditRecord.__dataclass_fields__, *audit_statement.AuditedShard.__dataclass_fields__):
        assert name in section, name
    section |= _code_words(_part("Selection statement"))
    for name in (
        *selection_statement.SelectionRecord.__dataclass_fields__,
        *selection_statement.SelectedShard.__dataclass_fields__,
    ):
        assert name in section, name


@pytest.mark.parametrize(
    "constant",
    [
        receipt.EVENT_RECEIPT,
        receipt.ACT_RECEIPT,
        statement.RUN,
        audit_statement.AUDIT,
        selection_statement.SELECTION,
        decided.STATEMENT,
        snapshot.FORMAT,
        journal.PAYLOAD_TYPE,
    ],
)
def test_the_constants_of_the_formats_are_named(constant: str) -> None:
    assert constant in _read("formats.md")


def test_every_module_is_on_the_map() -> None:
    named = _code_words(_read("architecture.md"))
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ledger").rglob("*.py")}
    assert there - named == set()
    assert {word for word in named if re.fullmatch(r"ledger/[\w/]+\.py", word)} - there == set()


def _links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_the_decisions_have_their_parts() -> None:
    pages: list[Any] = sorted((DOCS / "adr").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for heading in ("## Context", "## Decision", "## Options rejected"):
            assert heading in text, (page.name, heading)
