"use strict";
// Receipts of acts and statements of runs and audits: the shape of each, and what must hold in it.

// ---- shapes: closed sets of fields, and what each may hold

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const has = (value, key) => Object.hasOwn(value, key);

function closed(name, value, required, optional = {}) {
  require(isObject(value), `${name} is not an object`);
  for (const key of Object.keys(required)) require(has(value, key), `${name} lacks ${key}`);
  for (const [key, item] of Object.entries(value)) {
    const check = has(required, key) ? required[key] : has(optional, key) ? optional[key] : null;
    require(check !== null, `${name} has a field that it may not have`);
    check(`${name}.${key}`, item);
  }
}

const objectOf = (required, optional) => (name, value) => closed(name, value, required, optional);
const textUpTo = (bytes) => (name, value) =>
  require(typeof value === "string" && value !== "" && utf8(value).length <= bytes, `${name} is not a text of 1 to ${bytes} bytes`);
const aText = textUpTo(4096), aLongText = textUpTo(2 ** 20);
const oneOf = (...words) => (name, value) => require(words.includes(value), `${name} is another word than is allowed`);
const aNumberFrom = (least) => (name, value) => require(Number.isSafeInteger(value) && value >= least, `${name} is not a number of at least ${least}`);
const aCount = aNumberFrom(0), aVersion = aNumberFrom(1);
const aDigest = (name, value) => require(typeof value === "string" && /^[0-9a-f]{64}$/.test(value), `${name} is no SHA-256 in hexadecimal`);
const aMoment = (name, value) => require(micros(value) !== null, `${name} is no moment`);

function anId(name, value) {
  textUpTo(512)(name, value);
  require(!value.includes("\0"), `${name} holds a NUL`);
}

function aPurpose(name, value) {
  anId(name, value);
  require(/@[1-9][0-9]*$/.test(value), `${name} is not a purpose with its version`);
}

function listOf(check) {
  return (name, value) => {
    require(Array.isArray(value) && value.length > 0, `${name} is not a list with something in it`);
    value.forEach((item, at) => check(`${name}[${at}]`, item));
  };
}

function countsBy(words) {
  return (name, value) => {
    require(isObject(value), `${name} is not an object`);
    for (const [word, number] of Object.entries(value)) {
      require(words.includes(word), `${name} has an unknown word`);
      aNumberFrom(1)(name, number);
    }
  };
}

function textByName(name, value) {
  require(isObject(value), `${name} is not an object`);
  for (const [key, item] of Object.entries(value)) {
    aText(name, key);
    aText(name, item);
  }
}

// Microseconds since 1970 of exactly YYYY-MM-DDThh:mm:ss.ffffffZ; null for a moment that does not exist.
function micros(value) {
  const parts = typeof value === "string" && /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{6})Z$/.exec(value);
  if (!parts) return null;
  const [year, month, day, hour, minute, second, fraction] = parts.slice(1).map(Number);
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(hour, minute, second);
  const exists = year > 0 && date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day
    && date.getUTCHours() === hour && date.getUTCMinutes() === minute && date.getUTCSeconds() === second;
  return exists ? BigInt(date.getTime()) * 1000n + BigInt(fraction) : null;
}

const STATEMENT = "https://in-toto.io/Statement/v1", RUN = "urn:consent-ledger:run:v1", AUDIT = "urn:consent-ledger:audit:v1";
const ACT_RECEIPT = "urn:consent-ledger:act-receipt:v1", PAYLOAD_TYPE = "application/vnd.in-toto+json";
const DROPPED = ["subject_missing", "category_excluded", "refused", "withdrawn", "objected", "revoked", "not_covered",
  "notice_changed", "expired", "no_record"];
const BASES = ["assertion", "import", "evidence", "session"];

const SUBJECTS = { subjects_root: aDigest, subjects_seed: aDigest };
const ACTS = {
  purpose_declared: [
    { token: anId, version: aVersion, title: aText, description: aText, basis: oneOf("consent", "licence") },
    { controller: aText, contact: aText, recipients: listOf(aText), categories: listOf(anId), retention: aText,
      withdraw_url: aText, accepts: listOf(aVersion) }],
  notice_declared: [{ notice_id: anId, version: aVersion, language: aText, sha256: aDigest }, {}],
  key_added: [{ role: oneOf("log", "run"), vkey: aText }, {}],
  key_ended: [{ role: oneOf("log", "run"), vkey: aText }, {}],
  import_finished: [
    { file_sha256: aDigest, new: aCount, repeated: aCount, suppressed: aCount, reversals: aCount, rejected: aCount },
    { source: aText }],
  snapshot_compiled: [{ purpose: aPurpose, snapshot_sha256: aDigest, file_sha256: aDigest, tree_size: aCount, as_of: aMoment }, SUBJECTS],
  statement_made: [{ statement_sha256: aDigest, predicate_type: aText }, { snapshot_sha256: aDigest, ...SUBJECTS }],
};

const PREDICATE = {
  purpose: aPurpose, rule_version: aText, origin: aText, snapshot_sha256: aDigest, answers_sha256: aDigest,
  snapshot_receipt: aLongText,
  columns: objectOf({ subject: listOf(aText) }, { content: aText, category: aText, created: aText,
    created_unit: oneOf("s", "ms", "us", "ns"), subject_prefix: aText, content_prefix: aText }),
  decided_at: aMoment, age_seconds: aCount, max_age_seconds: aCount, rests_on: countsBy(BASES), versions: textByName,
  started_at: aMoment, finished_at: aMoment,
};
const OPTIONAL = {
  recipient: aText, warnings: listOf(aText), subjects: objectOf({ root: aDigest, seed: aDigest, count: aCount }),
};
const OWN = {
  [RUN]: [
    { run_id: aText, rows_in: aCount, rows_kept: aCount, rows_dropped: countsBy(DROPPED), unmapped: aCount,
      shards: listOf(objectOf({ input: aText, input_sha256: aDigest, output: aText, output_sha256: aDigest, rows_in: aCount,
        rows_kept: aCount, rows_dropped: countsBy(DROPPED) })) },
    { dropped_metadata: listOf(aText) }],
  [AUDIT]: [
    { audit_id: aText, rows: aCount, shards: listOf(objectOf({ name: aText, sha256: aDigest, rows: aCount })) },
    {}],
};

// ---- receipts

async function openReceipt(line, keys) {
  const receipt = decode(line.replace(/\n$/, ""), LIMIT_RECEIPT);
  closed("a receipt", receipt, { act: anAct, format: oneOf(ACT_RECEIPT), proof: aLongText, salt: aText });
  const salt = unbase64(receipt.salt);
  require(salt.length === 32, "a receipt's salt has another length");
  const entry = await sha256(utf8("consent-ledger/act/v1\n"), salt, utf8(encode(receipt.act)));
  const proof = parseProof(receipt.proof);
  const signatures = proof.checkpoint.slice(proof.checkpoint.lastIndexOf("\n\n") + 2);
  require(signatures.split("\n").length === 2, "a checkpoint bears other signatures than the log's");
  const checkpoint = await openCheckpoint(proof.checkpoint, keys);
  const { root, shown } = await followProof(await leafHash(entry), proof.index, checkpoint.size, proof.path);
  require(equal(root, checkpoint.root), "an inclusion proof does not lead to the root that the log has signed");
  return { act: receipt.act, checkpoint, position: proof.index, roots: [...shown, [checkpoint.size, checkpoint.root]] };
}

function anAct(name, value) {
  const kind = isObject(value) && has(value, "act") && typeof value.act === "string" && has(ACTS, value.act) ? ACTS[value.act] : null;
  require(kind !== null, `${name} is no act that is known`);
  const common = { act: oneOf(...Object.keys(ACTS)), recorded_at: aMoment, recorded_by: aText };
  closed(name, value, { ...common, ...kind[0] }, kind[1]);
}

// ---- statements

async function openEnvelope(line, keys) {
  const envelope = decode(line, LIMIT_STATEMENT);
  const names = Object.keys(envelope).sort().join();
  require(names === "payload,payloadType,signatures" && envelope.payloadType === PAYLOAD_TYPE, "not a signed statement");
  const payload = unbase64(envelope.payload);
  const message = concat(utf8(`DSSEv1 ${PAYLOAD_TYPE.length} ${PAYLOAD_TYPE} ${payload.length} `), payload);
  require(Array.isArray(envelope.signatures) && envelope.signatures.length <= 16, "the statement's signatures are no short list");
  const signatures = envelope.signatures.map((one) => {
    require(isObject(one) && Object.keys(one).sort().join() === "keyid,sig" && typeof one.keyid === "string", "a signature is none");
    return { keyid: one.keyid, signature: unbase64(one.sig) };
  });
  let signed = false;
  for (const { keyid, signature } of signatures) {
    const key = keys.find((known) => known.dsseId === keyid);
    if (!key) continue;
    require(await signedBy(key.key, signature, message), "the statement's signature does not fit its text");
    signed = true;
  }
  require(signed, "the statement is not signed by a run key that you trust");
  return payload;
}

const sum = (numbers) => numbers.reduce((total, number) => total + BigInt(number), 0n);
const byUtf8 = (left, right) => {
  const [a, b] = [utf8(left), utf8(right)];
  for (let at = 0; at < Math.min(a.length, b.length); at++) if (a[at] !== b[at]) return a[at] - b[at];
  return a.length - b.length;
};

function requireNames(names) {
  for (const name of names) {
    require(!/[\0\\]/.test(name) && name.split("/").every((part) => !["", ".", ".."].includes(part)), "a shard's name is no relative path");
  }
  require(new Set(names).size === names.length, "a shard is named twice");
}

// What both kinds say of their shards, under the same names.
function shardsOf(kind, said) {
  return kind === RUN
    ? said.shards.map((shard) => ({ name: shard.output, sha256: shard.output_sha256, rows_in: shard.rows_in, rows_kept: shard.rows_kept }))
    : said.shards.map((shard) => ({ name: shard.name, sha256: shard.sha256, rows_kept: shard.rows }));
}

function requireCounts(kind, said) {
  if (kind === AUDIT) {
    require(BigInt(said.rows) === sum(said.shards.map((shard) => shard.rows)), "the rows are not the sum over the shards");
    require(sum(Object.values(said.rests_on)) === BigInt(said.rows), "what the yeses rest on does not add up to the rows");
    return;
  }
  const dropped = {};
  for (const shard of said.shards) {
    const lost = Object.entries(shard.rows_dropped);
    require(BigInt(shard.rows_in) === BigInt(shard.rows_kept) + sum(lost.map(([, number]) => number)), "the rows of a shard do not add up");
    for (const [reason, number] of lost) dropped[reason] = (dropped[reason] ?? 0n) + BigInt(number);
  }
  for (const name of ["rows_in", "rows_kept"]) {
    require(BigInt(said[name]) === sum(said.shards.map((shard) => shard[name])), "the rows in all are not the sum over the shards");
  }
  const same = Object.keys(dropped).length === Object.keys(said.rows_dropped).length
    && Object.entries(dropped).every(([reason, number]) => has(said.rows_dropped, reason) && BigInt(said.rows_dropped[reason]) === number);
  require(same, "the rows left out are not the sum over the shards");
  require(sum(Object.values(said.rests_on)) === BigInt(said.rows_kept), "what the yeses rest on does not add up to the rows kept");
  require(said.unmapped <= said.rows_in - said.rows_kept, "more rows lacked a column than were left out");
}

async function openStatement(source, trust) {
  require(utf8(source).length <= LIMIT_STATEMENT, "the statement is too long");
  const lines = source.split("\n");
  require(lines.pop() === "" && lines.length >= 1 && lines.length <= 2, "a statement has two lines, each ended");
  require(lines.length === 2, "the statement is not in the log: the receipt of its entry is missing");
  const statement = decode(text(await openEnvelope(lines[0], trust.run)), LIMIT_STATEMENT);
  const kind = statement.predicateType;
  require(typeof kind === "string" && has(OWN, kind), "a statement of an unknown type");
  const common = { ...PREDICATE, ...OWN[kind][0] }, optional = { ...OPTIONAL, ...OWN[kind][1] };
  const subject = objectOf({ name: aText, digest: objectOf({ sha256: aDigest }) });
  closed("the statement", statement, { _type: oneOf(STATEMENT), subject: listOf(subject), predicateType: oneOf(kind), predicate: objectOf(common, optional) });
  const said = statement.predicate, shards = shardsOf(kind, said);
  require(said.age_seconds <= said.max_age_seconds, "the answers were older than their limit");
  if (kind === RUN) requireNames(said.shards.map((shard) => shard.input));
  requireNames(shards.map((shard) => shard.name));
  requireCounts(kind, said);
  const metadata = said.dropped_metadata ?? [];
  require(encode(metadata) === encode([...new Set(metadata)].sort(byUtf8)), "dropped_metadata is not sorted");

  const sorted = shards.every((shard, at) => at === 0 || byUtf8(shards[at - 1].name, shard.name) < 0);
  const setRoot = hex(await sha256(...shards.map((shard) => unhex(shard.sha256))));
  const subjects = [{ name: ".", digest: { sha256: setRoot } }, ...shards.map(({ name, sha256 }) => ({ name, digest: { sha256 } }))];
  require(sorted && encode(statement.subject) === encode(subjects), "the statement's subjects are not its shards and their set root");

  require(!said.snapshot_receipt.endsWith("\n"), "the statement's snapshot receipt is not one line");
  const snapshot = await openReceipt(said.snapshot_receipt, trust.log);
  const { act } = snapshot;
  require(act.act === "snapshot_compiled" && act.snapshot_sha256 === said.snapshot_sha256 && act.purpose === said.purpose
    && snapshot.checkpoint.origin === said.origin, "the answers that decided the rows are others than the log names");
  const age = micros(said.decided_at) - micros(act.as_of);
  require(age >= 0n && age / 1000000n <= BigInt(said.age_seconds), "the answers were older than the statement says");

  const logged = await openReceipt(lines[1], trust.log);
  require(logged.act.act === "statement_made" && logged.act.predicate_type === kind
    && logged.act.statement_sha256 === hex(await sha256(utf8(lines[0]))), "the log's entry is of another statement");
  require((logged.act.snapshot_sha256 ?? said.snapshot_sha256) === said.snapshot_sha256, "the log says that other answers decided the rows");
  const committed = said.subjects ? { subjects_root: said.subjects.root, subjects_seed: said.subjects.seed } : {};
  require(Object.keys(SUBJECTS).every((name) => logged.act[name] === committed[name]), "the log commits to another set of subjects");
  require(logged.checkpoint.origin === said.origin, "the statement is in another log than its answers");
  require(logged.position > snapshot.position, "the statement stands in the log before the answers that it speaks of");
  return { kind, said, shards, setRoot, snapshot, logged };
}

// A declared purpose, by the receipt of that act.
async function openPurpose(line, trust) {
  const receipt = await openReceipt(line, trust.log);
  require(receipt.act.act === "purpose_declared", "a receipt is not of a purpose");
  return receipt;
}

// All of a report's documents, or a Refused: statements, and for each purpose that they name the act that declared it.
async function openAll(evidence, trust) {
  const runs = [], purposes = [], histories = new Histories();
  for (const source of evidence.statements) runs.push(await openStatement(source, trust));
  for (const line of evidence.purposes) purposes.push(await openPurpose(line, trust));
  require(runs.length > 0, "there is no statement in this page");
  require(new Set(runs.map((run) => run.logged.act.statement_sha256)).size === runs.length, "a statement stands twice in this page");
  for (const run of runs) [run.snapshot, run.logged].forEach((receipt) => histories.meet(receipt));
  purposes.forEach((receipt) => histories.meet(receipt));
  const named = [...new Set(runs.map((run) => run.said.purpose))];
  const shown = purposes.map(({ act }) => `${act.token}@${act.version}`);
  require(encode(named) === encode(shown), "the purposes on this page are not those that the statements name");
  const origins = new Set([...runs.map((run) => run.said.origin), ...purposes.map((receipt) => receipt.checkpoint.origin)]);
  require(origins.size === 1, "the documents in this page are of several logs");
  return { runs, purposes };
}
