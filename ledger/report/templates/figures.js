"use strict";
// Figures: what the page must show, under the names and in the form of ledger/report/figures.py.

const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

const count = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");
const visible = (value) =>
  value.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

function moment(value) {
  const [, year, month, day, time] = /^(\d+)-(\d+)-(\d+)T(.{8})/.exec(value);
  return `${Number(day)} ${MONTHS[month - 1]} ${Number(year)}, ${time} UTC`;
}

function span(seconds) {
  const parts = [];
  for (const [name, size] of [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]]) {
    const number = Math.floor(seconds / size);
    seconds -= number * size;
    if (number) parts.push(`${count(number)} ${name}${number === 1 ? "" : "s"}`);
  }
  return parts.slice(0, 2).join(" ") || "less than a second";
}

function share(part, whole) {
  if (!BigInt(whole)) return "none";
  const tenths = (BigInt(part) * 1000n) / BigInt(whole);
  return `${tenths / 10n}.${tenths % 10n} %`;
}

function figures({ runs, purposes }) {
  const found = new Map();
  runs.forEach((run, at) => ofRun(run, (name, value) => found.set(`run.${at}.${name}`, value)));
  purposes.forEach(({ act }, at) => ofPurpose(act, (name, value) => found.set(`purpose.${at}.${name}`, value)));
  if (runs.length > 1) {
    runs.forEach((_, at) => found.set(`run.${at}.number`, count(at + 1)));
    const rowsIn = sum(runs.map(({ said }) => said.rows_in ?? said.rows)), kept = sum(runs.map(({ said }) => said.rows_kept ?? said.rows));
    const all = { runs: count(runs.length), shards: count(sum(runs.map(({ shards }) => shards.length))), rows_in: count(rowsIn),
      rows_kept: count(kept), rows_dropped: count(rowsIn - kept), share_kept: share(kept, rowsIn) };
    for (const [name, value] of Object.entries(all)) found.set(`all.${name}`, value);
  }
  return found;
}

function ofRun({ kind, said, shards, setRoot, snapshot, logged }, put) {
  put("id", visible(said.run_id ?? said.audit_id));
  put("purpose", visible(said.purpose));
  put("origin", visible(said.origin));
  put("decided_at", moment(said.decided_at));
  put("finished_at", moment(said.finished_at));
  put("as_of", moment(snapshot.act.as_of));
  put("age", span(said.age_seconds));
  put("max_age", span(said.max_age_seconds));
  put("rows_kept", count(said.rows_kept ?? said.rows));
  put("shards", count(shards.length));
  put("set_root", setRoot);
  put("snapshot_sha256", said.snapshot_sha256);
  put("answers_sha256", said.answers_sha256);
  put("tree_size", count(snapshot.act.tree_size));
  put("position", count(logged.position));
  put("checkpoint_size", count(logged.checkpoint.size));
  for (const [reason, number] of Object.entries(said.rows_dropped ?? {})) put(`dropped.${reason}`, count(number));
  for (const [basis, number] of Object.entries(said.rests_on)) put(`rests_on.${basis}`, count(number));
  (said.warnings ?? []).forEach((warning, at) => put(`warning.${at}`, visible(warning)));
  if (has(said, "recipient")) put("recipient", visible(said.recipient));
  if (kind === RUN) {
    put("rows_in", count(said.rows_in));
    put("rows_dropped", count(said.rows_in - said.rows_kept));
    put("share_kept", share(said.rows_kept, said.rows_in));
    put("unmapped", count(said.unmapped));
  }
  shards.forEach((shard, at) => {
    put(`shard.${at}.name`, visible(shard.name));
    put(`shard.${at}.sha256`, shard.sha256);
    put(`shard.${at}.rows_kept`, count(shard.rows_kept));
    if (kind === RUN) put(`shard.${at}.rows_in`, count(shard.rows_in));
  });
}

function ofPurpose(act, put) {
  put("reference", visible(`${act.token}@${act.version}`));
  put("declared_at", moment(act.recorded_at));
  for (const name of ["title", "description", "basis", "controller", "contact", "retention", "withdraw_url"]) {
    if (has(act, name)) put(name, visible(act[name]));
  }
  (act.recipients ?? []).forEach((value, at) => put(`recipient.${at}`, visible(value)));
  (act.categories ?? []).forEach((value, at) => put(`category.${at}`, visible(value)));
}
