"""The check button of a report, in a real Chromium, on a file: what is right, and everything that is not."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mutants import Maker, by_library
from stories import Story, run, tell

import ledger
from ledger.errors import VerificationError
from ledger.log import trust as trust_file
from tests.browser import DESKTOP, barriers, screens
from tests.statements.paper_log import PaperLog


@pytest.fixture(scope="module")
def report(story: Story) -> str:
    return story.write("report.html").read_text("utf-8")


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """With what it asked the network for, which is nothing, and what went wrong in it."""
    context = chromium.new_context(viewport=DESKTOP)
    opened = context.new_page()
    opened.asked, opened.errors = [], []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.on("console", lambda message: opened.errors.append(message.text))
    yield opened
    assert [url for url in opened.asked if not url.startswith("file:")] == []
    assert opened.errors == []
    context.close()


Check = Callable[..., tuple[str, str]]


@pytest.fixture
def check(page: Any, tmp_path: Path) -> Check:
    """check(source, trust, *files): opens the page, pastes, presses the button; the verdict, and what was said."""

    def press(source: str, trust: str, *files: Path) -> tuple[str, str]:
        (tmp_path / "page.html").write_text(source, encoding="utf-8")
        page.goto((tmp_path / "page.html").as_uri())
        page.fill("#trust", trust)
        if files:
            page.set_input_files("#files", list(files))
        page.get_by_role("button", name="Check this report").click()
        page.locator("#result[data-verdict]").wait_for()
        verdict = page.locator("#result").get_attribute("data-verdict")
        text = page.locator("#result").inner_text()
        assert (verdict == "verified") == text.startswith("Verified")
        return verdict, text

    return press


def test_a_genuine_report_is_verified_and_says_what_it_cannot_tell(page: Any, check: Check, story: Story, report: str) -> None:
    verdict, text = check(report, story.trust)
    assert verdict == "verified", text
    assert "of 74 rows 24 were kept" in text
    assert "Whether the 2 shards, wherever they are now, are those that were signed" in text
    assert "That people really said what the ledger was told" in text
    assert barriers(page) == []
    screens(page, "report")


def test_the_trust_lines_may_stand_in_a_whole_file(check: Check, story: Story, report: str) -> None:
    stranger = PaperLog()
    assert check(report, f"# mine\r\n\r\n{stranger.trust_text}\n{story.trust}  \n")[0] == "verified"


def test_keys_that_are_not_the_ones(check: Check, story: Story, report: str) -> None:
    stranger = PaperLog()
    log, signer = (
        story.trust.strip().split("\n")[:2]
        if story.trust.startswith("log")
        else sorted(line for line in story.trust.split("\n") if re.match("log |run ", line))
    )
    wrong_id = re.sub(r"\+([0-9a-f])", lambda m: "+" + ("0" if m[1] != "0" else "1"), log, count=1)
    for trust, said in (
        ("", "there are no trust lines"),
        ("# nothing\n", "there are no trust lines"),
        ("garbage", "not understood"),
        (f"{log}\n", "there are no trust lines"),
        (f"{signer}\n", "there are no trust lines"),
        (stranger.trust_text, "not signed by a run key that you trust"),
        (f"{log}\n{stranger.trust_text.split(chr(10))[1]}", "not signed by a run key"),
        (f"{stranger.trust_text.split(chr(10))[0]}\n{signer}", "not signed by a log key"),
        (f"{wrong_id}\n{signer}", "does not have the id"),
        (f"{log} x\n{signer}", "not understood"),
        (f"{log} until x\n{signer}", "not understood"),
        (f"{log} until 1\n{signer}", "by a key that was replaced"),
        (f"{log} https://log.example until 1\n{signer}\n{log}", "by a key that was replaced"),
        (f"{log}\n{signer}\nquorum 2", "demand witnesses"),
        (f"log {signer.split(' ')[1]}\nrun {log.split(' ')[1]}", "not signed by a run key"),
    ):
        verdict, text = check(report, trust)
        assert (verdict, said in text) == ("failed", True), (trust, text)


def test_a_key_with_an_end_counts_up_to_it(check: Check, story: Story, report: str) -> None:
    trust = re.sub("^(log .*)$", r"\1 https://log.example/ until 1000", story.trust, flags=re.MULTILINE)
    assert trust != story.trust
    assert check(report, trust)[0] != "failed"


def evidence_of(report: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(re.findall(r'id="evidence">(.*?)</script>', report, flags=re.DOTALL)[0])
    return found


def with_evidence(report: str, evidence: Any) -> str:
    text = json.dumps(evidence).replace("<", "\\u003c")
    return re.sub(r'(id="evidence">).*?(</script>)', lambda m: m[1] + text + m[2], report, flags=re.DOTALL)


def test_documents_that_were_changed(check: Check, story: Story, report: str) -> None:
    evidence = evidence_of(report)
    (statement,), (purpose,) = evidence["statements"], evidence["purposes"]
    first, second, _ = statement.split("\n")
    envelope = json.loads(first)
    payload = base64.b64decode(envelope["payload"])
    one_byte = payload.replace(b'"rows_kept":24', b'"rows_kept":25', 1)
    assert one_byte != payload
    signature = envelope["signatures"][0]["sig"]
    other_signature = ("A" if signature[0] != "A" else "B") + signature[1:]
    proof = re.search(r"index \d+\\n([A-Za-z0-9+/]{43}=)", second)
    assert proof is not None
    other_proof = second.replace(proof[1], base64.b64encode(bytes(32)).decode())
    note = json.loads(second)["proof"].partition("\n\n")[2]
    stranger = PaperLog(origin=story.book.origin)
    stranger.fill(5)
    other_note = json.loads(second) | {"proof": json.loads(second)["proof"].replace(note, stranger.proof(1).checkpoint)}
    changed = {
        "a byte of the payload": first.replace(envelope["payload"], base64.b64encode(one_byte).decode()) + "\n" + second + "\n",
        "the signature": first.replace(signature, other_signature) + "\n" + second + "\n",
        "the proof": first + "\n" + other_proof + "\n",
        "the checkpoint": first + "\n" + json.dumps(other_note, sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n",
        "no receipt": first + "\n",
        "no end": statement[:-1],
        "a repeated key": first.replace('{"payload"', '{"payload":"","payload"') + "\n" + second + "\n",
        "nothing": "",
    }
    for what, text in changed.items():
        assert check(with_evidence(report, {"statements": [text], "purposes": [purpose]}), story.trust)[0] == "failed", what
    for what, wrong in {
        "no statement": {"statements": [], "purposes": []},
        "no purpose": {"statements": [statement], "purposes": []},
        "twice": {"statements": [statement, statement], "purposes": [purpose]},
        "a purpose of other words": {
            "statements": [statement],
            "purposes": [purpose.replace("Train our model", "Help our model")],
        },
        "another act": {"statements": [statement], "purposes": [second]},
        "no list": {"statements": statement, "purposes": [purpose]},
        "null": None,
        "numbers": {"statements": [1], "purposes": [purpose]},
    }.items():
        assert check(with_evidence(report, wrong), story.trust)[0] == "failed", what
    assert check(re.sub(r'(id="evidence">).', r"\1[", report), story.trust)[0] == "failed"


def test_pages_that_were_changed(check: Check, story: Story, report: str) -> None:
    """The statement is genuine; what the page says of it is not."""
    kept = '<span data-figure="run.0.rows_kept">24</span>'
    row = re.search(r'<tr><th scope="row" class="name"><span data-figure="run.0.shard.1.*?</tr>', report, flags=re.DOTALL)
    bar = re.search(r'data-part="run.0.rows_kept" data-whole="run.0.rows_in" width="([0-9.]+)"', report)
    digest = story.predicate["shards"][0]["output_sha256"]
    assert row is not None
    assert bar is not None
    assert report.count(kept) >= 2
    changed = {
        "a figure": report.replace(kept, kept.replace("24", "25"), 1),
        "a figure without its mark": report.replace(kept, "25", 1),
        "every figure of a name": report.replace(kept, "twenty-five"),
        "a figure of another name": report.replace(kept, kept.replace("rows_kept", "rows_in"), 1),
        "a figure that nobody knows": report.replace(kept, kept.replace("run.0.rows_kept", "run.0.rows_lost"), 1),
        "a figure with something in it": report.replace(kept, kept.replace("24", "24<b>0</b>"), 1),
        "a removed shard row": report.replace(row[0], ""),
        "one more shard row": report.replace(row[0], row[0] + row[0].replace("shard.1.", "shard.2.")),
        "a digest": report.replace(f">{digest}<", f">{'0' * 64}<"),
        "a shard's name": report.replace(">a.parquet<", ">other.parquet<"),
        "the purpose": report.replace(">Train our model<", ">Search our model<"),
        "a recipient": report.replace(">Model Lab AB<", ">Model Lab<"),
        "a moment": report.replace(' data-figure="run.0.decided_at">', ' data-figure="run.0.decided_at">1', 1),
        "a bar": report.replace(bar[0], bar[0].replace(bar[1], "90.000")),
        "a bar of another row": report.replace('data-part="run.0.rows_kept"', 'data-part="run.0.dropped.no_record"'),
        "a number that is no text": report.replace("<h1>", '<input value="90 of 74 rows were kept"><h1>'),
        "a hidden figure": report.replace('<tr><th scope="row" class="name">', '<tr hidden><th scope="row" class="name">'),
        "a number in the words": report.replace("rows were left out", "of 9 rows were left out"),
    }
    for what, source in changed.items():
        assert source != report, what
        verdict, text = check(source, story.trust)
        assert verdict == "failed", (what, text)
        assert "Do not rely on this page" in text


def test_pages_that_show_something_else_beside_the_figures(page: Any, check: Check, story: Story, report: str) -> None:
    """Every element with a figure says what is signed; a reader would see another number all the same."""
    kept = '<span data-figure="run.0.rows_kept">24</span>'
    rows_in = '<span data-figure="run.0.rows_in">74</span>'
    bar = re.search(r'<svg class="bar".*?</svg>', report, flags=re.DOTALL)
    result = re.search(r'<p class="result">.*?</p>', report, flags=re.DOTALL)
    assert bar is not None
    assert result is not None
    other = "74 of 74 rows were kept"
    head = '<p class="kind">'
    style = re.search(r"<style>(.*?)</style>", report, flags=re.DOTALL)
    assert style is not None
    styled = style[1] + ".result { font-size: 0 } .result::after { font-size: 2rem; content: '74 of 74 rows' }"
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style[1], styled)]
    changed = {
        "another signed figure in its place": report.replace(result[0], result[0].replace(kept, rows_in)),
        "one of its digits hidden": report.replace(kept, kept.replace("24", '<span class="unseen">2</span>4'), 1),
        "the figure hidden": report.replace(result[0], f'<div class="unseen">{result[0]}</div>'),
        "a figure twice": report.replace(kept, kept + kept, 1),
        "fixed words": report.replace(head, f"<p data-fixed>{other}</p>{head}"),
        "not signed, and not said so": report.replace(head, f"<p data-unsigned>{other}</p>{head}"),
        "as if of the ledger": report.replace(
            "<h3>What became", f'<div class="unsigned" data-unsigned>{other}</div><h3>What became'
        ),
        "a second section of the check": report.replace(head, f'<p id="checking">{other}</p>{head}'),
        "in the section of the check": report.replace("<h3>1. In this", f"<p>{other}</p><h3>1. In this"),
        "a title of the page": report.replace("<title>Consent report", f"<title>{other}"),
        "a tooltip": report.replace('<p class="result">', f'<p class="result" title="{other}">'),
        "what a screen reader says": report.replace('<p class="result">', f'<p class="result" role="img" aria-label="{other}">'),
        "a list that counts": report.replace(head, f'<ol start="74"><li>rows were kept</li></ol>{head}'),
        "an item that counts": report.replace(head, f'<ul><li value="74">rows were kept</li></ul>{head}'),
        "a style of its own": report.replace('<p class="result">', '<p class="result" style="font-size: 0">'),
        "another style sheet": report.replace(style[1], styled).replace(digests[0], digests[1]),
        "one more style sheet": report.replace("</head>", "<style></style></head>"),
        "a bar without its mark": report.replace(bar[0], re.sub(r' data-(part|whole)="[^"]*"', "", bar[0]).replace("32.", "90.")),
        "a bar that is stretched": report.replace(bar[0], bar[0].replace("0 0 100 10", "0 0 40 10")),
        "two bars in one": report.replace(bar[0], bar[0].replace("<rect", '<rect width="90" height="10" class="kept"/><rect')),
        "a bar of another colour": report.replace(bar[0], bar[0].replace('class="kept"', 'class="dropped"')),
        "a drawing": report.replace(head, f'<svg class="time"><polyline points="0,0 9,9"/></svg>{head}'),
        "a verdict that is there already": report.replace(head, f'<div data-verdict="verified">Verified</div>{head}'),
    }
    passed = []
    for what, source in changed.items():
        assert source != report, what
        if check(source, story.trust)[0] != "failed":
            passed.append(what)
    assert passed == []
    assert all("inline style" in error for error in page.errors)
    page.errors.clear()


def test_a_shadow_that_no_script_finds_shows_nothing(page: Any, check: Check, story: Story, report: str) -> None:
    for host, mode in (("<body>", "closed"), ('<div class="verdict">', "closed"), ('<div class="verdict">', "open")):
        shadow = f'{host}<template shadowrootmode="{mode}">74 of 74 rows were kept<slot></slot></template>'
        check(report.replace(host, shadow, 1), story.trust)
        assert "74 of 74" not in page.locator("body").aria_snapshot()
        assert page.locator("p.result").inner_text() == "24 of 74 rows were kept"


def test_a_changed_script_does_not_run(page: Any, story: Story, report: str, tmp_path: Path) -> None:
    """The page's policy names its scripts by their digests: who changes one has to change the policy too."""
    (tmp_path / "page.html").write_text(report.replace('verdict: "failed"', 'verdict: "verified"'), encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("#check-form").is_hidden()
    assert page.locator("#no-script").is_visible()
    assert page.errors
    assert all("Content Security Policy" in error for error in page.errors)
    page.errors.clear()


def test_chosen_files_are_compared_with_the_signed_digests(check: Check, story: Story, report: str, tmp_path: Path) -> None:
    good, other = story.train / "a.parquet", story.train / "b" / "b.parquet"
    verdict, text = check(report, story.trust, good)
    assert verdict == "verified"
    assert "The file “a.parquet” is, byte for byte, the shard that was signed" in text
    assert "the other 1 of 2 shards" in text
    verdict, text = check(report, story.trust, good, other)
    assert verdict == "verified"
    assert "choose their files above" not in text
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.parquet").write_bytes(good.read_bytes()[:-1] + b"x")
    (bad / "<b>stranger.parquet").write_bytes(b"x")
    assert "is not the shard that was signed" in check(report, story.trust, bad / "a.parquet")[1]
    assert check(report, story.trust, other, bad / "a.parquet")[0] == "failed"
    verdict, text = check(report, story.trust, bad / "<b>stranger.parquet")
    assert (verdict, "no statement names a shard “<b>stranger.parquet”" in text) == ("failed", True)


def test_a_browser_without_ed25519_claims_nothing(page: Any, check: Check, story: Story, report: str) -> None:
    for lack in (
        "SubtleCrypto.prototype.importKey = async () => { throw new DOMException('no', 'NotSupportedError') }",
        "SubtleCrypto.prototype.verify = async () => true",
        "Object.defineProperty(Crypto.prototype, 'subtle', { get: () => undefined })",
    ):
        page.add_init_script(lack)
        verdict, text = check(report, story.trust)
        assert verdict == "unknown", text
        assert "nothing was checked and nothing is claimed" in text


def test_the_saved_statement_is_the_file(page: Any, story: Story, report: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(report, encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the signed statement").click()
    assert Path(download.value.path()).read_bytes() == story.statement


def test_several_runs_an_audit_and_hostile_texts(page: Any, check: Check, tmp_path: Path) -> None:
    told = tell(
        tmp_path / "it",
        title="<script>alert(1)</script> \u202etxt",
        description="]]></script>" + "wide " * 50 + "W" * 300,
        recipients=["</script><img src=x onerror=alert(2)>", "&lt;", "{{ 7 }}"],
    )
    with told.book as book:
        book.withdraw("u3")
        run(book, told.folder, "<b>second")
        outside = told.folder / "outside"
        outside.mkdir()
        (outside / "kept.parquet").write_bytes((told.folder / "<b>second" / "a.parquet").read_bytes())
        consent = ledger.ConsentFilter(book.snapshot("train-ai"), ledger.Columns(subject="user_id", category="kind"))
        consent.attest_shards(outside, key=book.run_key(), admit=book.admit)
        source = told.write("many.html", told.train, told.folder / "<b>second", outside).read_text("utf-8")
        trust = book.trust_text()
    verdict, text = check(source, trust)
    assert verdict == "verified", text
    assert "“<script>alert(1)</script> ⟨U+202E⟩txt”" in text
    assert page.locator("h1").count() == 1
    assert page.locator("img, script[src], b").count() == 0
    assert barriers(page) == []
    screens(page, "report-several")
    twice = told.folder / "twice.html"
    with pytest.MonkeyPatch.context() as blind, ledger.open(told.folder / "consent-ledger") as book:
        blind.setattr("ledger.report.facts.set", Never, raising=False)
        twice.write_text(ledger.report_on(book, told.train, told.train).html(), encoding="utf-8")
    verdict, text = check(twice.read_text("utf-8"), trust)
    assert (verdict, "a statement stands twice" in text) == ("failed", True)
    swapped = evidence_of(source)
    swapped["statements"].reverse()
    assert check(with_evidence(source, swapped), trust)[0] == "failed"


class Never(set[str]):
    """Has met nothing."""

    def __contains__(self, _: object) -> bool:
        return False


def test_all_that_a_run_may_say_stands_in_its_place(check: Check, tmp_path: Path) -> None:
    told = tell(tmp_path)
    with told.book as book:
        book.record(ledger.Event(state="withdrawn", subject_id="u3", content_id="p", purposes=["train-ai"]))
        consent = ledger.ConsentFilter(book.snapshot("train-ai"), ledger.Columns(subject="user_id", category="kind"))
        consent.filter_shards(
            [tmp_path / "raw"], tmp_path / "more", key=book.run_key(), admit=book.admit, recipient="Model Lab AB"
        )
        source = told.write("more.html", tmp_path / "more").read_text("utf-8")
        assert "run.0.unmapped" in source.partition("record behind")[0]
        verdict, text = check(source, book.trust_text())
        assert verdict == "verified", text


# Against the library.

_VERDICTS = """async ([cases, lines]) => {
    const trust = await openTrust(lines), found = [];
    for (const encoded of cases) {
        try {
            const run = await openStatement(text(Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0))), trust);
            const histories = new Histories();
            [run.snapshot, run.logged].forEach((receipt) => histories.meet(receipt));
            found.push("");
        } catch (error) {
            found.push(error instanceof Refused ? error.message : `CRASH ${error}`);
        }
    }
    return found;
}"""


@pytest.fixture
def opened(page: Any, report: str, tmp_path: Path) -> Any:
    (tmp_path / "page.html").write_text(report, encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    return page


@pytest.mark.parametrize("seed", range(3))
def test_it_refuses_exactly_what_the_library_refuses(opened: Any, seed: int) -> None:
    maker = Maker(seed)
    cases = [maker.good(), *maker.mutants(199)]
    encoded = [base64.b64encode(case).decode() for case in cases]
    found = opened.evaluate(_VERDICTS, [encoded, maker.log.trust_text])
    expected = [by_library(case, maker.log.trust) for case in cases]
    differ = [
        (ours, theirs, case) for ours, theirs, case in zip(expected, found, cases, strict=True) if bool(ours) != bool(theirs)
    ]
    assert differ == []
    assert [message for message in found if message.startswith("CRASH")] == []
    assert found[0] == ""
    assert 10 < sum(not message for message in found) < 120
    assert len({*found}) > 20


def test_it_takes_exactly_the_trust_lines_that_the_library_takes(opened: Any) -> None:
    log, signer, _ = PaperLog().trust_text.split("\n")
    name, key_id, key = log.removeprefix("log ").split("+", 2)
    short = base64.b64encode(b"\1" + bytes(31)).decode()
    texts = [
        *(
            log,
            signer,
            f"{log}\n{signer}\n",
            f"\t{log}\r\n \n#x",
            f"{log}\x0b",
            f"{log}\x85",
            f"\ufeff{log}",
            f"{log}\x1f{signer}",
        ),
        *(
            f"log {name}+{key_id}+{key[:-1]}",
            f"log {name}+{key_id.upper()}+{key}",
            f"log +{key_id}+{key}",
            "log",
            "log x",
            "run a+b+c",
        ),
        *(
            f"log {name}+{key_id}",
            f"log {name}+{key_id}+",
            f"log {name}+{key_id}+{short}",
            f"LOG {name}+{key_id}+{key}",
            f"{log} {log}",
        ),
        *(
            f"log a\u00a0b+{key_id}+{key}",
            f"log\u00a0{name}+{key_id}+{key}",
            f"witness {name}+{key_id}+{key}",
            "",
            "#",
            "constructor x",
        ),
        *(f"__proto__ {name}+{key_id}+{key}", f"log {name}\u200b+{key_id}+{key}", f"# {log}\n{log[:-4]}AAA="),
    ]
    script = """async (texts) => {
        const found = [];
        for (const source of texts) {
            try {
                const trust = await openTrust(source);
                found.push(trust.log.length + trust.run.length);
            } catch (error) {
                found.push(error instanceof Refused ? -1 : String(error));
            }
        }
        return found;
    }"""
    expected = []
    for text in texts:
        try:
            trust = trust_file.parse(text)
            expected.append(len(trust.log) + len(trust.run))
        except VerificationError:
            expected.append(-1)
    assert opened.evaluate(script, texts) == expected
    assert {-1, 0, 1, 2} <= set(expected)


def test_published_inclusion_probes(opened: Any, shared: Path) -> None:
    files = sorted((shared / "vectors/transparency-dev-merkle/testdata/inclusion").rglob("*.json"))
    probes = [json.loads(file.read_text()) for file in files]
    script = """async (probes) => {
        const found = [];
        for (const probe of probes) {
            try {
                const [leaf, root, ...path] = [probe.leafHash, probe.root, ...probe.proof].map((hash) => unbase64(hash ?? ""));
                require([leaf, root, ...path].every((hash) => hash.length === 32), "length");
                const index = BigInt(probe.leafIdx), size = BigInt(probe.treeSize);
                const followed = await followProof(leaf, index, size, path);
                found.push(!equal(followed.root, root));
            } catch (error) {
                found.push(error instanceof Refused ? true : String(error));
            }
        }
        return found;
    }"""
    keys = ("leafHash", "root", "proof", "leafIdx", "treeSize")
    given = [{key: str(p[key]) if key in ("leafIdx", "treeSize") else p[key] or [] for key in keys} for p in probes]
    for probe in given:
        probe["leafHash"], probe["root"] = probe["leafHash"] or "", probe["root"] or ""
    assert opened.evaluate(script, given) == [probe["wantErr"] for probe in probes]
    assert len(probes) > 90


def test_published_proofs_and_notes(opened: Any, shared: Path) -> None:
    vectors = json.loads((shared / "vectors/notes/tlog_proof.json").read_text())
    script = """async ([vkey, cases]) => {
        const key = await openVkey(vkey), found = [];
        for (const { leaf_utf8, proof } of cases) {
            const parsed = parseProof(proof), checkpoint = await openCheckpoint(parsed.checkpoint, [key]);
            const leaf = await leafHash(utf8(leaf_utf8));
            const { root } = await followProof(leaf, parsed.index, checkpoint.size, parsed.path);
            found.push([equal(root, checkpoint.root), String(checkpoint.size)]);
        }
        return found;
    }"""
    assert opened.evaluate(script, [vectors["vkey"], vectors["valid_derived"]]) == [[True, "15"]] * len(vectors["valid_derived"])
