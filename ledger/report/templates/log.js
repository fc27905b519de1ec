"use strict";
// The log: bytes, canonical JSON, keys, signed notes, checkpoints and inclusion proofs, as docs/formats.md has them.
// What `consent verify` refuses is refused here, by a Refused that says why. Trusted is what the reader hands in, nothing else.
// Of the browser it uses WebCrypto's SHA-256 and Ed25519, and text encoding.

class Refused extends Error {}

function require(holds, why) {
  if (!holds) throw new Refused(why);
}

// ---- bytes and text

const LIMIT_STATEMENT = 64 * 2 ** 20, LIMIT_RECEIPT = 2 ** 20, LIMIT_TRUST = 2 ** 20, LIMIT_NOTE = 2 ** 20;

const utf8 = (text) => new TextEncoder().encode(text);
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const equal = (left, right) => left.length === right.length && left.every((byte, at) => byte === right[at]);

function text(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Refused("a document is not UTF-8");
  }
}

function concat(...parts) {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", concat(...parts)));
}

// Only what encodes back to itself: no other alphabet, white space, missing padding or stray bits.
function unbase64(encoded) {
  require(typeof encoded === "string" && /^[A-Za-z0-9+/]*={0,2}$/.test(encoded) && encoded.length % 4 === 0, "not base64");
  const binary = atob(encoded);
  require(btoa(binary) === encoded, "base64 that does not encode back to itself");
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

async function signedBy(key, signature, message) {
  try {
    const imported = await crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", imported, signature, message);
  } catch {
    return false;
  }
}

// ---- canonical JSON (RFC 8785) over text, integers, lists and objects

// Reading the bytes and writing the value again gives the same bytes: so no key stands there twice, and nothing is hidden.
function decode(source, limit) {
  require(utf8(source).length <= limit, "a document is longer than is allowed");
  let value;
  try {
    value = JSON.parse(source);
  } catch {
    throw new Refused("not a JSON document");
  }
  require(isObject(value), "not a JSON object");
  require(encode(value, 32) === source, "a document is not in its canonical form");
  return value;
}

function encode(value, depth = 32) {
  if (typeof value === "string") {
    require(!/[\uD800-\uDFFF]/u.test(value), "text that has no UTF-8 form");
    return JSON.stringify(value);
  }
  if (typeof value === "number") {
    require(Number.isSafeInteger(value) && !Object.is(value, -0), "a number that is no integer");
    return String(value);
  }
  require(typeof value === "object" && value !== null, "a value that is neither text, integer, list nor object");
  require(depth > 0, "nested too deep");
  if (Array.isArray(value)) return "[" + value.map((item) => encode(item, depth - 1)).join(",") + "]";
  const pairs = Object.keys(value).sort().map((key) => encode(key) + ":" + encode(value[key], depth - 1));
  return "{" + pairs.join(",") + "}";
}

// ---- keys and the trust text

// White space, plus, controls and lone surrogates have no place in a key's name.
const KEY_NAME = /^[^\t-\r \x1c-\x1f\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000+\x00-\x1f\x7f\uD800-\uDFFF]+$/u;

async function openVkey(vkey) {
  const match = /^([^+]*)\+([0-9a-f]{8})\+(.+)$/s.exec(vkey);
  require(match && KEY_NAME.test(match[1]), "a trust line holds no verifier key NAME+ID+KEY");
  const data = unbase64(match[3]);
  require(data[0] === 1 && data.length === 33, "a verifier key in the trust lines is not an Ed25519 key");
  const id = (await sha256(utf8(match[1] + "\n"), data)).slice(0, 4);
  require(hex(id) === match[2], "a verifier key in the trust lines does not have the id that it gives itself");
  const key = data.slice(1);
  const document = encode({ keytype: "ed25519", keyval: { public: hex(key) }, scheme: "ed25519" });
  return { name: match[1], id, key, dsseId: hex(await sha256(utf8(document))) };
}

async function openTrust(source) {
  require(source.length <= LIMIT_TRUST, "the trust text is too long");
  const trust = { log: [], run: [] };
  for (const line of source.split("\n")) {
    const words = line.match(/[^ \t\r]+/g) ?? [];
    if (!words.length || words[0].startsWith("#")) continue;
    require(!["witness", "group", "quorum"].includes(words[0]), "the trust lines demand witnesses, which this page cannot ask for");
    if (words[0] === "log" && /^https?:\/\/[!-~]+$/.test(words[2] ?? "")) words.splice(2, 1);
    const ends = words[0] === "log" && words.length === 4 && words[2] === "until" && /^(0|[1-9][0-9]{0,18})$/.test(words[3]);
    require((words.length === 2 || ends) && has(trust, words[0]),
      "a trust line is not understood: each reads `log KEY`, `log KEY until SIZE` or `run KEY`");
    trust[words[0]].push({ ...(await openVkey(words[1])), until: ends ? BigInt(words[3]) : MAX_SIZE });
  }
  return trust;
}

// ---- the log: signed notes, checkpoints, inclusion proofs

async function openNote(note, keys) {
  require(note.length <= LIMIT_NOTE && !/[\x00-\x09\x0b-\x1f\uD800-\uDFFF]/u.test(note), "a checkpoint holds what no note may hold");
  const blank = note.lastIndexOf("\n\n");
  require(blank >= 0 && note.endsWith("\n") && note.length > blank + 2, "a checkpoint is no signed note");
  const body = note.slice(0, blank + 1);
  const lines = note.slice(blank + 2, -1).split("\n");
  require(lines.length <= 100, "a checkpoint has too many signatures");
  const signatures = lines.map((line) => {
    const parts = /^— ([^ ]*) ([^]*)$/.exec(line);
    require(parts && KEY_NAME.test(parts[1]), "a checkpoint has a line that is no signature");
    const data = unbase64(parts[2]);
    require(data.length > 4, "a checkpoint has a signature line without a signature");
    return { name: parts[1], id: data.slice(0, 4), signature: data.slice(4) };
  });
  const signers = [];
  for (const { name, id, signature } of signatures) {
    for (const key of keys) {
      if (key.name !== name || !equal(key.id, id)) continue;
      require(await signedBy(key.key, signature, utf8(body)), "the log's signature does not fit its checkpoint");
      signers.push(key);
    }
  }
  require(signers.length > 0, "a checkpoint of the log is not signed by a log key that you trust");
  return { body, signers };
}

const MAX_SIZE = 2n ** 63n - 1n;
const EMPTY_ROOT = unhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");

async function openCheckpoint(note, keys) {
  const { body, signers } = await openNote(note, keys);
  const lines = body.split("\n");
  require(lines.length >= 4 && lines.pop() === "" && lines.every((line) => line), "not a checkpoint");
  const [origin, size, encoded] = lines;
  require(/^(0|[1-9][0-9]{0,18})$/.test(size) && BigInt(size) <= MAX_SIZE, "a checkpoint has no size");
  const root = unbase64(encoded);
  require(root.length === 32 && (size !== "0" || equal(root, EMPTY_ROOT)), "a checkpoint has no root");
  const own = signers.filter((key) => key.name === origin);
  require(own.length > 0, "a checkpoint is signed under another name than its log's");
  // A key on two lines ends at the earlier one.
  const ends = (key) => keys.filter((other) => other.name === key.name && equal(other.key, key.key)).every(({ until = MAX_SIZE }) => BigInt(size) <= until);
  require(own.some(ends), "a checkpoint is signed by a key that was replaced before");
  return { origin, size: BigInt(size), root };
}

function parseProof(source) {
  require(source.length <= 2 * LIMIT_NOTE, "a proof is too long");
  const blank = source.indexOf("\n\n");
  require(blank >= 0 && source.length > blank + 2, "not a proof of an entry");
  const [header, index, ...hashes] = source.slice(0, blank).split("\n");
  require(header === "c2sp.org/tlog-proof@v1", "not a proof of an entry");
  const place = /^index (0|[1-9][0-9]{0,18})$/.exec(index ?? "");  // an `extra` line, which nothing authenticates, is refused here
  require(place && BigInt(place[1]) <= MAX_SIZE, "a proof does not say where the entry stands");
  require(hashes.length <= 63, "a proof is too long");
  const path = hashes.map(unbase64);
  require(path.every((hash) => hash.length === 32), "a proof holds something that is no hash");
  return { index: BigInt(place[1]), path, checkpoint: source.slice(blank + 2) };
}

const leafHash = (entry) => sha256(Uint8Array.of(0), entry);
const nodeHash = (left, right) => sha256(Uint8Array.of(1), left, right);

// RFC 9162, 2.1.3.2. Also the roots of the trees that end before and after the entry, which the path shows (left siblings).
async function followProof(leaf, index, size, path) {
  require(index < size, "a proof is for an entry beyond the log's size");
  let place = index, last = size - 1n, root = leaf;
  const left = [];
  for (const sibling of path) {
    require(last > 0n, "an inclusion proof is too long");
    if (place & 1n || place === last) {
      root = await nodeHash(sibling, root);
      left.unshift(sibling);
      while (place > 0n && !(place & 1n)) {
        place >>= 1n;
        last >>= 1n;
      }
    } else {
      root = await nodeHash(root, sibling);
    }
    place >>= 1n;
    last >>= 1n;
  }
  require(last === 0n, "an inclusion proof is too short");
  const before = await fold(left);
  let hash = leaf;
  for (let rest = index; rest & 1n; rest >>= 1n) hash = await nodeHash(left.pop(), hash);
  const after = await fold([...left, hash]);
  return { root, shown: [[index, before], [index + 1n, after]] };
}

async function fold(perfect) {
  if (!perfect.length) return EMPTY_ROOT;
  let root = perfect.at(-1);
  for (const hash of perfect.slice(0, -1).reverse()) root = await nodeHash(hash, root);
  return root;
}

// Two roots for one size are two histories of one log.
class Histories {
  constructor() {
    this.roots = new Map();
  }
  meet(receipt) {
    for (const [size, root] of receipt.roots) {
      const key = `${size} ${receipt.checkpoint.origin}`;
      require((this.roots.get(key) ?? hex(root)) === hex(root), "two checkpoints are not of one log: it has shown two histories");
      this.roots.set(key, hex(root));
    }
  }
}
