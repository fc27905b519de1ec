"use strict";
// The check of this page: its embedded documents by the reader's trust lines, then every figure on it against them.
// Nothing here says "verified" unless all of it passed; whatever is not understood is a failure.

const $ = (id) => document.getElementById(id);
const NO_ED25519 = "This browser cannot check Ed25519 signatures, so nothing was checked and nothing is claimed. "
  + "A current Firefox, Chrome, Edge or Safari can; so can the command below.";
const COULD_NOT = [
  "That this page is the one that was made. Whoever changes its figures is caught; whoever changes this check as well, or the words around the figures, is not. The signed statement inside it can be saved and checked by other programs.",
  "That people really said what the ledger was told.",
  "That whoever gave you the trust lines owns those keys: take them from the operator by a way of their own, never from who sent this page.",
  "What is marked “from the ledger, not signed”: no statement signs it.",
];

function evidence() {
  const found = JSON.parse($("evidence").textContent);
  const lists = ["statements", "purposes"].every((key) => Array.isArray(found?.[key]) && found[key].every((item) => typeof item === "string"));
  require(lists, "the documents in this page are not readable");
  return found;
}

function provenance({ runs }) {
  return runs.flatMap((run, at) => [
    `Statement ${at + 1}: signed by a run key that you trust; its rows add up, shard by shard and in all.`,
    `Statement ${at + 1}: in the log ${visible(run.said.origin)} as entry ${count(run.logged.position)}, under a checkpoint signed by a log key that you trust; so are the answers that decided its rows, entry ${count(run.snapshot.position)}.`,
  ]);
}

// Told anew, from the signed documents alone: the words around the figures of the page could be others than they were.
function retold({ runs, purposes }) {
  return runs.map(({ kind, said, shards }, at) => {
    const { act } = purposes.find((one) => `${one.act.token}@${one.act.version}` === said.purpose);
    const reasons = DROPPED.filter((reason) => has(said.rows_dropped ?? {}, reason));
    const lost = reasons.map((reason) => `${count(said.rows_dropped[reason])} ${reason.replace("_", " ")}`).join(", ");
    const files = shards.length === 1 ? "1 shard" : `${count(shards.length)} shards`;
    const rows = kind === RUN
      ? `of ${count(said.rows_in)} rows ${count(said.rows_kept)} were kept` + (lost ? `, and left out were ${lost}` : ", and none was left out")
      : `all ${count(said.rows)} rows were allowed`;
    return `Statement ${at + 1}: for “${visible(act.title)}” (${visible(said.purpose)}), ${rows}, in ${files}; decided ${moment(said.decided_at)}.`;
  });
}

async function hasEd25519() {
  try {
    // The first test vector of RFC 8032, 7.1: a browser that accepts nothing, or anything, is not asked further.
    const key = unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    const signature = unhex("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
    return (await signedBy(key, signature, new Uint8Array())) && !(await signedBy(key, signature, Uint8Array.of(1)));
  } catch {
    return false;
  }
}

// Files that the reader chose, by the names and digests that the statements sign. A browser has to hold a file whole.
const MAX_FILE = 1e9;

async function requireFiles({ runs }, files, passed, unknown) {
  const shards = runs.flatMap((run) => run.shards);
  const seen = new Set();
  for (const file of files) {
    const named = shards.filter((shard) => shard.name.split("/").pop() === file.name);
    require(named.length > 0, `no statement names a shard “${visible(file.name)}”`);
    if (file.size > MAX_FILE) {
      unknown.push(`The file “${visible(file.name)}”: it is too large for a browser. Compare what sha256sum says of it with the digest in the table.`);
      continue;
    }
    const digest = hex(await sha256(new Uint8Array(await file.arrayBuffer())));
    const same = named.filter((shard) => shard.sha256 === digest);
    require(same.length > 0, `the file “${visible(file.name)}” is not the shard that was signed: its digest is ${digest}`);
    same.forEach((shard) => seen.add(shard));
    passed.push(`The file “${visible(file.name)}” is, byte for byte, the shard that was signed.`);
  }
  const left = shards.length - seen.size;
  const which = seen.size ? `the other ${count(left)} of ${count(shards.length)} shards` : `the ${count(left)} shards`;
  if (left) unknown.push(`Whether ${which}, wherever they are now, are those that were signed: choose their files above.`);
}

async function check(trustText, files) {
  const passed = [], unknown = [];
  if (!(await hasEd25519())) return { verdict: "unknown", why: NO_ED25519, passed, unknown };
  try {
    const trust = await openTrust(trustText);
    require(trust.log.length > 0 && trust.run.length > 0, "there are no trust lines: paste a line `log KEY` and a line `run KEY`");
    const all = await openAll(evidence(), trust);
    passed.push(...provenance(all));
    const expected = figures(all);
    await requireOwnForm();
    requireFigures(expected, order(all));
    passed.push(`Each of the ${count(expected.size)} figures on this page that come from signed documents is the signed one and stands in its place, and no other number stands among them.`);
    requireBars(expected);
    passed.push("The bars are as long as their figures say.", "The purposes shown are those that the log declares.");
    await requireFiles(all, files, passed, unknown);
    return { verdict: "verified", why: "", passed, unknown, says: retold(all) };
  } catch (error) {
    const why = error instanceof Refused ? error.message : `something in this page is not readable (${error.name})`;
    return { verdict: "failed", why, passed, unknown };
  }
}

const HEADS = { verified: "Verified", failed: "Not verified", unknown: "Not checked" };

function list(heading, lines, kind) {
  const title = document.createElement("h4"), items = document.createElement("ul");
  title.textContent = heading;
  items.className = kind;
  for (const line of lines) items.appendChild(document.createElement("li")).textContent = line;
  return lines.length ? [title, items] : [];
}

function show({ verdict, why, passed, unknown, says }) {
  const head = document.createElement("h3"), reason = document.createElement("p");
  head.textContent = HEADS[verdict];
  reason.textContent = verdict === "verified"
    ? "What this page says of rows, shards and purposes is what was signed, by the keys that you pasted."
    : verdict === "failed" ? `Do not rely on this page. What was wrong: ${why}.` : why;
  const lists = verdict === "verified"
    ? [...list("What was signed", says, "says"), ...list("What was checked", passed, "yes"), ...list("What this check cannot tell", [...unknown, ...COULD_NOT], "unknown")] : [];
  const result = $("result");
  result.dataset.verdict = verdict;
  result.replaceChildren(head, reason, ...lists);
}

function save() {
  evidence().statements.forEach((statement, at) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([statement], { type: "application/jsonl" }));
    link.download = `statement-${at + 1}.intoto.jsonl`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
}

document.addEventListener("DOMContentLoaded", () => {
  // Read anew, as the check sees it: a shadow tree, which no script finds, could show other text in the place of this.
  document.body.replaceWith(new DOMParser().parseFromString(document.body.innerHTML, "text/html").body);
  $("no-script").remove();
  $("check-form").hidden = false;
  $("check-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const result = $("result");
    delete result.dataset.verdict;
    result.textContent = "Checking …";
    $("check").disabled = true;
    show(await check($("trust").value, $("files").files));
    $("check").disabled = false;
    $("result").focus();
  });
  $("save").addEventListener("click", save);
});
